#include "cli/loaded_model.h"

#include "export/peft.h"

namespace strata::cli {

void ModelOptions::declare(CLI::App& command) {
  command.add_option("--model", model, "Hugging Face folder of the model")->required();
  command.add_option("--adapter", adapter, "PEFT folder of an adapter to put beside it");
  command.add_flag("--shrink", shrink, kShrinkHelp);
  command.add_option("--dtype", dtype, "type of the matrix products")
      ->check(CLI::IsMember({"f32", "bf16"}));
  command.add_option("--template", data.chat_template,
                     "chat template: auto, plain, chatml, llama3, alpaca, ...");
  command
      .add_option("--max-length", data.max_length, "tokens of a record; longer ones lose their end")
      ->check(CLI::Range(2, 1 << 24));
}

Result<LoadedModel> load_model(const sys::Disk& disk, const ModelOptions& options) {
  auto model = model::Model::load(disk, options.model, compute_type(options.dtype));
  if (!model) return fail(std::move(model).error());
  auto text = load_text(disk, options.model, options.data, model->config());
  if (!text) return fail(std::move(text).error());
  LoadedModel out{std::move(*model), std::nullopt, std::move(*text), std::nullopt};
  if (options.adapter.empty()) {
    if (options.shrink) return fail(nothing_to_shrink());
    return out;
  }
  auto peft = exporting::read_peft(disk, options.adapter);
  if (!peft) return fail(std::move(peft).error());
  if (options.shrink) {
    auto shrunk = shrink_adapter(disk, options.adapter, *peft);
    if (!shrunk) return fail(std::move(shrunk).error());
    out.shrinkage = *shrunk;
  }
  std::map<std::string, adapter::Factors> factors;
  for (const auto& [module, pair] : peft->modules) {
    adapter::Factors scaled{pair.b, pair.a};
    for (float& value : scaled.b.values())
      value = static_cast<float>(static_cast<double>(value) * pair.scale);
    factors.emplace(module, std::move(scaled));
  }
  auto set = adapter::AdapterSet::from_factors(client::linear_shapes(out.model), factors);
  if (!set) {
    // A file that does not fit the model is bad input, whatever the layer below calls it.
    Error error = std::move(set).error();
    error.code = ErrorCode::kFormat;
    return fail(std::move(error), "putting " + options.adapter + " beside " + options.model);
  }
  set->prepare(out.model.compute());
  out.adapters.emplace(std::move(*set));
  return out;
}

}  // namespace strata::cli

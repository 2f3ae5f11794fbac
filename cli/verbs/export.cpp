// strata export: a base model with adapters folded in, as a Hugging Face checkpoint.
#include <fmt/format.h>

#include "cli/loaded_model.h"
#include "cli/table.h"
#include "cli/verb.h"
#include "cli/verbs/verbs.h"
#include "export/fold.h"
#include "export/huggingface.h"
#include "formats/atomic_folder.h"
#include "tensor/team.h"

namespace strata::cli {
namespace {

struct Options {
  std::string model;
  std::vector<std::string> adapters;
  std::string output;
  std::string dtype = "f32";
  bool shrink = false;
  bool force = false;
};

tensor::DType stored_type(const std::string& name) {
  if (name == "bf16") return tensor::DType::kBF16;
  return name == "f16" ? tensor::DType::kF16 : tensor::DType::kF32;
}

// One adapter after the other, in the order given, as rounds follow each other.
Result<std::vector<Shrinkage>> fold_all(const sys::Disk& disk, const Options& options,
                                        model::Model& model, tensor::Team& team) {
  std::vector<Shrinkage> out;
  if (options.shrink && options.adapters.empty()) return fail(nothing_to_shrink());
  for (const auto& folder : options.adapters) {
    auto adapter = exporting::read_peft(disk, folder);
    if (!adapter) return fail(std::move(adapter).error());
    if (options.shrink) {
      auto shrunk = shrink_adapter(disk, folder, *adapter);
      if (!shrunk) return fail(std::move(shrunk).error());
      out.push_back(*shrunk);
    }
    if (auto folded = exporting::fold_adapter(model, *adapter, folder, &team); !folded)
      return fail(std::move(folded).error());
  }
  return out;
}

Result<VerbOutput> run(Context& context, const Options& options) {
  if (auto free = formats::check_free(context.disk, options.output, options.force); !free)
    return fail(std::move(free).error());
  tensor::Team team(context.threads);
  auto model = model::Model::load(context.disk, options.model, tensor::DType::kF32);
  if (!model) return fail(std::move(model).error(), "loading the base model");
  auto shrinkages = fold_all(context.disk, options, *model, team);
  if (!shrinkages) return fail(std::move(shrinkages).error());
  exporting::CheckpointSummary summary;
  const auto fill = [&](const std::filesystem::path& folder) -> Result<void> {
    auto written = exporting::write_checkpoint_files(context.disk, folder, options.model, *model,
                                                     stored_type(options.dtype));
    if (!written) return fail(std::move(written).error());
    summary = *written;
    return {};
  };
  auto written = formats::write_folder(context.disk, options.output, options.force, fill);
  if (!written) return fail(std::move(written).error());
  const std::string hash = hex(model->state_hash(&team));
  VerbOutput out;
  out.data = {{"model", options.model}, {"adapters", options.adapters}, {"output", options.output},
              {"dtype", options.dtype}, {"tensors", summary.tensors},   {"bytes", summary.bytes},
              {"model_hash", hash}};
  out.text = fmt::format("wrote {}: {} tensors as {}, {}\n", options.output, summary.tensors,
                         options.dtype, bytes_text(static_cast<double>(summary.bytes)));
  if (!options.shrink) return out;
  out.data["shrinkage"] = nlohmann::ordered_json::array();
  for (const auto& shrinkage : *shrinkages) {
    out.data["shrinkage"].push_back(shrinkage_json(shrinkage));
    out.text += "shrinkage: " + shrinkage_text(shrinkage);
  }
  return out;
}

}  // namespace

Verb export_verb() {
  return {.name = "export",
          .help = "Write a Hugging Face checkpoint of a model with adapters folded in",
          .example =
              "strata export --model models/base --adapter runs/one/adapter -o models/tuned "
              "--dtype bf16",
          .declare = [](CLI::App& command) -> RunVerb {
            const auto options = std::make_shared<Options>();
            command.add_option("--model", options->model, "Hugging Face folder of the base model")
                ->required();
            command.add_option("--adapter", options->adapters,
                               "PEFT adapter folder; several are folded in the order given");
            command.add_flag("--shrink", options->shrink, kShrinkHelp);
            command.add_option("-o,--output-dir", options->output, "folder to write")->required();
            command
                .add_option("--dtype", options->dtype,
                            "type of the stored tensors: f32 (default), bf16 or f16")
                ->check(CLI::IsMember({"f32", "bf16", "f16"}));
            command.add_flag("--force", options->force, "replace the output folder");
            return [options](Context& context) { return run(context, *options); };
          }};
}

}  // namespace strata::cli

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "export/peft.h"
#include "formats/safetensors.h"

namespace strata::exporting {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kWeight = ".weight";

struct Stacked {
  std::string module;
  tensor::Matrix b;  // d_out x rank
  tensor::Matrix a;  // rank x d_in
  std::size_t rank = 0;
};

Error not_low_rank(const std::string& tensor, std::string what) {
  return {.code = ErrorCode::kUnsupported,
          .what = std::move(what),
          .where = printable(tensor),
          .rule = "a PEFT LoRA adapter holds products B A on linear layers only",
          .remedy = "export a merged checkpoint, or recompress the update to low rank"};
}

// [B_1 .. B_n] [A_1; ..; A_n] = sum_i B_i A_i, padded with zero rows and columns to `rank`.
Stacked stack(const std::string& module, const adapter::TensorDelta& delta, std::size_t rank) {
  Stacked out{.module = module, .b = {delta.d_out, rank}, .a = {rank, delta.d_in}, .rank = rank};
  std::size_t at = 0;
  for (const auto& term : delta.terms) {
    const auto& low = std::get<adapter::LowRank>(term);
    const std::size_t r = low.a.rows();
    std::copy_n(low.a.data(), low.a.size(), out.a.data() + at * delta.d_in);
    for (std::size_t i = 0; i < delta.d_out; ++i)
      std::copy_n(low.b.data() + i * r, r, out.b.data() + i * rank + at);
    at += r;
  }
  return out;
}

Result<std::size_t> stacked_rank(const std::string& name, const adapter::TensorDelta& delta) {
  if (!name.ends_with(kWeight) || delta.d_in < 2)
    return fail(not_low_rank(name, "not the weight of a linear layer"));
  std::size_t rank = 0;
  for (const auto& term : delta.terms) {
    const auto* low = std::get_if<adapter::LowRank>(&term);
    if (low == nullptr) return fail(not_low_rank(name, "a change of full rank"));
    rank += low->a.rows();
  }
  return rank;
}

// All ranks; at least one row each, so that a tensor without terms is still a valid (zero) adapter.
Result<std::map<std::string, std::size_t>> ranks_of(const adapter::DeltaTerms& delta,
                                                    bool uniform) {
  std::map<std::string, std::size_t> ranks;
  std::size_t largest = 1;
  for (const auto& [name, change] : delta) {
    auto rank = stacked_rank(name, change);
    if (!rank) return fail(std::move(rank).error());
    ranks[name] = std::max<std::size_t>(*rank, 1);
    largest = std::max(largest, *rank);
  }
  if (ranks.empty()) {
    return fail({.code = ErrorCode::kData,
                 .what = "the update changes no tensor",
                 .where = "adapter",
                 .rule = "an adapter has at least one layer"});
  }
  for (auto& [name, rank] : ranks) rank = uniform ? largest : rank;
  return ranks;
}

// The rank most layers have becomes `r`; the smaller one on a tie.
std::size_t commonest(const std::vector<Stacked>& layers) {
  std::map<std::size_t, std::size_t> counts;
  for (const auto& layer : layers) ++counts[layer.rank];
  return std::max_element(counts.begin(), counts.end(),
                          [](auto& a, auto& b) { return a.second < b.second; })
      ->first;
}

// The keys PEFT writes for a plain adapter. No member is left out: readers differ in what they take
// for granted.
std::string config_text(const std::vector<Stacked>& layers, const PeftOptions& options,
                        std::size_t rank) {
  Json patterns = Json::object();
  std::vector<std::string> targets = options.target_modules;
  for (const auto& layer : layers) {
    if (layer.rank != rank) patterns[layer.module] = layer.rank;
    if (options.target_modules.empty()) targets.push_back(layer.module);
  }
  const Json base = options.base_model.empty() ? Json() : Json(options.base_model);
  const Json config = {{"alpha_pattern", patterns},
                       {"auto_mapping", nullptr},
                       {"base_model_name_or_path", base},
                       {"bias", "none"},
                       {"exclude_modules", nullptr},
                       {"fan_in_fan_out", options.fan_in_fan_out},
                       {"inference_mode", true},
                       {"init_lora_weights", true},
                       {"layers_pattern", nullptr},
                       {"layers_to_transform", nullptr},
                       {"lora_alpha", rank},
                       {"lora_dropout", 0.0},
                       {"modules_to_save", nullptr},
                       {"peft_type", "LORA"},
                       {"r", rank},
                       {"rank_pattern", patterns},
                       {"revision", nullptr},
                       {"target_modules", targets},
                       {"task_type", "CAUSAL_LM"},
                       {"use_dora", false},
                       {"use_rslora", false}};
  return config.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string card_text(const PeftOptions& options, std::size_t layers, std::size_t rank) {
  std::string out = "---\n";
  if (!options.base_model.empty()) {
    const Json name(options.base_model);  // a JSON string is a YAML string
    out += "base_model: " + name.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  }
  out +=
      "library_name: peft\npipeline_tag: text-generation\ntags:\n- lora\n- strata\n---\n\n# LoRA "
      "adapter\n\n";
  out += "Written by strata: " + std::to_string(layers) + " linear layers, rank " +
         std::to_string(rank) + ". Scales are folded into `lora_B`";
  out +=
      " and `lora_alpha` equals the rank, so the adapter is applied with scale 1.\n\n```python\n";
  out +=
      "from peft import PeftModel\n\nmodel = PeftModel.from_pretrained(base_model, "
      "\"path/of/this/folder\")\n```\n";
  return out;
}

std::span<const std::byte> bytes_of(const tensor::Matrix& matrix) {
  return std::as_bytes(matrix.values());
}

}  // namespace

Result<PeftSummary> write_peft_files(sys::Disk& disk, const std::filesystem::path& folder,
                                     const adapter::DeltaTerms& delta, const PeftOptions& options) {
  auto ranks = ranks_of(delta, options.uniform_rank);
  if (!ranks) return fail(std::move(ranks).error(), "writing a PEFT adapter");
  if (auto valid = adapter::validate(delta); !valid)
    return fail(std::move(valid).error(), "writing a PEFT adapter");
  std::vector<Stacked> layers;
  for (const auto& [name, change] : delta) {
    layers.push_back(stack(name.substr(0, name.size() - kWeight.size()), change, ranks->at(name)));
  }
  std::vector<formats::TensorToWrite> tensors;
  PeftSummary summary{.modules = layers.size(), .rank = commonest(layers)};
  for (const auto& layer : layers) {
    const std::string prefix = "base_model.model." + layer.module;
    tensors.push_back({.name = prefix + ".lora_A.weight",
                       .shape = {layer.rank, layer.a.cols()},
                       .bytes = bytes_of(layer.a)});
    tensors.push_back({.name = prefix + ".lora_B.weight",
                       .shape = {layer.b.rows(), layer.rank},
                       .bytes = bytes_of(layer.b)});
    summary.bytes +=
        tensors[tensors.size() - 1].bytes.size() + tensors[tensors.size() - 2].bytes.size();
  }
  auto written = formats::write_safetensors(disk, folder / "adapter_model.safetensors", tensors,
                                            options.metadata);
  if (written)
    written = disk.write_atomic(folder / "adapter_config.json",
                                config_text(layers, options, summary.rank));
  if (written)
    written =
        disk.write_atomic(folder / "README.md", card_text(options, layers.size(), summary.rank));
  if (!written) return fail(std::move(written).error(), "writing a PEFT adapter");
  return summary;
}

std::vector<std::string> short_targets(const adapter::DeltaTerms& delta,
                                       std::span<const std::string> linears) {
  const auto last_part = [](const std::string& module) {
    return module.substr(module.rfind('.') + 1);
  };
  const auto adapted = [&](const std::string& module) {
    return delta.contains(module + std::string(kWeight));
  };
  std::set<std::string> partly;
  for (const auto& module : linears) {
    if (!adapted(module)) partly.insert(last_part(module));
  }
  std::set<std::string> out;
  for (const auto& [name, change] : delta) {
    const std::string module = name.substr(0, name.size() - kWeight.size());
    out.insert(partly.contains(last_part(module)) ? module : last_part(module));
  }
  return {out.begin(), out.end()};
}

}  // namespace strata::exporting

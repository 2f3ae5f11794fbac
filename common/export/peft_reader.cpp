#include <algorithm>
#include <cmath>
#include <set>

#include "export/peft.h"
#include "formats/safetensors.h"
#include "text/regex.h"

namespace strata::exporting {
namespace {

constexpr std::string_view kPrefix = "base_model.model.";
constexpr std::string_view kSuffixA = ".lora_A.weight";
constexpr std::string_view kSuffixB = ".lora_B.weight";

std::string key_of(const std::string& module, std::string_view suffix) {
  return std::string(kPrefix) + module + std::string(suffix);
}

std::string shape_text(const std::vector<std::size_t>& shape) {
  std::string out = "[";
  for (const auto n : shape) out += (out.size() > 1 ? ", " : "") + std::to_string(n);
  return out + "]";
}

Error damaged(const formats::SafetensorsFile& file, const std::string& key, std::string what,
              std::string rule) {
  return {.code = ErrorCode::kFormat,
          .what = std::move(what),
          .where = file.where() + ": " + printable(key),
          .rule = std::move(rule),
          .remedy = "save the adapter again with PEFT's save_pretrained"};
}

// rank_pattern or alpha_pattern. PEFT asks re.match(rf"(.*\\.)?({key})$", module) of the keys in
// the order of the file and takes the first that matches.
template <class T>
class PatternTable {
 public:
  static Result<PatternTable> make(const std::vector<std::pair<std::string, T>>& patterns,
                                   const std::string& where) {
    PatternTable out;
    for (const auto& [key, value] : patterns) {
      auto regex = text::Regex::compile("^(?:.*\\.)?(?:" + key + ")$", where);
      if (!regex) return fail(std::move(regex).error());
      out.rows_.emplace_back(*std::move(regex), value);
    }
    return out;
  }

  [[nodiscard]] T value_for(const std::string& module, T fallback) const {
    for (const auto& [regex, value] : rows_) {
      const auto found = regex.find_all(module);
      if (!found.empty() && found.front() == std::pair<std::size_t, std::size_t>(0, module.size()))
        return value;
    }
    return fallback;
  }

 private:
  std::vector<std::pair<text::Regex, T>> rows_;
};

struct Patterns {
  PatternTable<std::int64_t> rank;
  PatternTable<double> alpha;
};

Result<Patterns> compile_patterns(const PeftConfig& config, const std::string& where) {
  auto rank = PatternTable<std::int64_t>::make(config.rank_pattern, where + ": rank_pattern");
  if (!rank) return fail(std::move(rank).error());
  auto alpha = PatternTable<double>::make(config.alpha_pattern, where + ": alpha_pattern");
  if (!alpha) return fail(std::move(alpha).error());
  return Patterns{*std::move(rank), *std::move(alpha)};
}

// Module names behind the keys; each must come as a pair of A and B and nothing else may lie in the
// file.
Result<std::set<std::string>> modules_in(const formats::SafetensorsFile& file) {
  std::set<std::string> modules;
  for (const auto& key : file.names()) {
    const bool is_a = key.ends_with(kSuffixA);
    const bool is_b = key.ends_with(kSuffixB);
    if (!key.starts_with(kPrefix) || (!is_a && !is_b) ||
        key.size() <= kPrefix.size() + kSuffixA.size()) {
      return fail(
          {.code = ErrorCode::kUnsupported,
           .what = "a tensor that is no LoRA factor of a linear layer",
           .where = file.where() + ": " + printable(key),
           .rule = "tensors are named base_model.model.<module>.lora_A.weight and .lora_B.weight",
           .remedy = "merge the adapter into the base with PEFT"});
    }
    const std::string module =
        key.substr(kPrefix.size(), key.size() - kPrefix.size() - kSuffixA.size());
    const std::string other = key_of(module, is_a ? kSuffixB : kSuffixA);
    if (!file.contains(other)) {
      return fail(
          damaged(file, other, "missing", "every lora_A has its lora_B and the other way round"));
    }
    modules.insert(module);
  }
  if (modules.empty())
    return fail(damaged(file, "*", "no tensors", "an adapter has at least one A and B"));
  return modules;
}

Result<tensor::Matrix> factor(const formats::SafetensorsFile& file, const std::string& key) {
  auto stored = file.get(key);
  if (!stored) return fail(std::move(stored).error());
  if (stored->shape.size() != 2 || stored->element_count() == 0) {
    return fail(damaged(file, key, "shape " + shape_text(stored->shape),
                        "a factor of a linear layer is a matrix"));
  }
  auto values = formats::to_float(*stored, key, file.where());
  if (!values) return fail(std::move(values).error());
  return tensor::Matrix(stored->shape[0], stored->shape[1], *std::move(values));
}

Result<PeftModule> read_module(const formats::SafetensorsFile& file, const PeftConfig& config,
                               const Patterns& patterns, const std::string& module) {
  const std::int64_t rank = patterns.rank.value_for(module, config.rank);
  const std::string key_a = key_of(module, kSuffixA);
  const std::string key_b = key_of(module, kSuffixB);
  auto a = factor(file, key_a);
  if (!a) return fail(std::move(a).error());
  auto b = factor(file, key_b);
  if (!b) return fail(std::move(b).error());
  PeftModule out{.b = *std::move(b),
                 .a = *std::move(a),
                 .rank = static_cast<std::size_t>(rank),
                 .alpha = patterns.alpha.value_for(module, config.alpha)};
  const std::string rule = "r is " + std::to_string(rank) +
                           " for this module by adapter_config.json; A is r x d_in, B is d_out x r";
  if (out.a.rows() != out.rank) {
    return fail(damaged(file, key_a, "shape " + shape_text({out.a.rows(), out.a.cols()}), rule));
  }
  if (out.b.cols() != out.rank) {
    return fail(damaged(file, key_b, "shape " + shape_text({out.b.rows(), out.b.cols()}), rule));
  }
  const auto r = static_cast<double>(rank);
  out.scale = out.alpha / (config.use_rslora ? std::sqrt(r) : r);
  return out;
}

// The tensors' file; the remedy differs when PEFT wrote its older pickle instead.
Result<formats::SafetensorsFile> open_tensors(const sys::Disk& disk,
                                              const std::filesystem::path& folder) {
  const auto path = folder / "adapter_model.safetensors";
  if (!disk.exists(path) && disk.exists(folder / "adapter_model.bin")) {
    return fail({.code = ErrorCode::kUnsupported,
                 .what = "the adapter is a pickle (adapter_model.bin)",
                 .where = folder.string(),
                 .rule = "strata reads adapter_model.safetensors",
                 .remedy = "load it with PEFT and save_pretrained(..., safe_serialization=True)"});
  }
  return formats::SafetensorsFile::open(disk, path);
}

}  // namespace

std::size_t PeftAdapter::max_rank() const {
  std::size_t rank = 0;
  for (const auto& [name, module] : modules) rank = std::max(rank, module.rank);
  return rank;
}

Result<PeftAdapter> read_peft(const sys::Disk& disk, const std::filesystem::path& folder) {
  const auto config_path = folder / "adapter_config.json";
  auto text = disk.read_text(config_path);
  if (!text) return fail(std::move(text).error(), "reading the adapter " + folder.string());
  auto config = parse_peft_config(*text, config_path.string());
  if (!config) return fail(std::move(config).error());
  auto file = open_tensors(disk, folder);
  if (!file) return fail(std::move(file).error(), "reading the adapter " + folder.string());
  auto patterns = compile_patterns(*config, config_path.string());
  if (!patterns) return fail(std::move(patterns).error());
  auto modules = modules_in(*file);
  if (!modules) return fail(std::move(modules).error());
  PeftAdapter out{.config = *std::move(config), .modules = {}};
  for (const auto& name : *modules) {
    auto module = read_module(*file, out.config, *patterns, name);
    if (!module) return fail(std::move(module).error());
    out.modules.emplace(name, *std::move(module));
  }
  return out;
}

adapter::DeltaTerms delta_terms(const PeftAdapter& peft) {
  adapter::DeltaTerms out;
  for (const auto& [name, module] : peft.modules) {
    tensor::Matrix b = module.b;
    for (float& value : b.values()) value = static_cast<float>(module.scale * value);
    adapter::TensorDelta delta{.d_out = b.rows(), .d_in = module.a.cols(), .terms = {}};
    delta.terms.emplace_back(adapter::LowRank{.b = std::move(b), .a = module.a});
    out.emplace(name + ".weight", std::move(delta));
  }
  return out;
}

std::map<std::string, adapter::Factors> factors(const PeftAdapter& peft) {
  std::map<std::string, adapter::Factors> out;
  for (const auto& [name, module] : peft.modules)
    out.emplace(name, adapter::Factors{.b = module.b, .a = module.a});
  return out;
}

}  // namespace strata::exporting

// adapter_config.json -> PeftConfig. Every key that changes what the adapter computes is either
// understood or refused; keys that only say how it was trained are left alone.
#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/json_depth.h"
#include "export/peft.h"

namespace strata::exporting {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::int64_t kRankMax = 65536;

// Keys whose presence with anything but null, false, 0 or an empty list or object means another
// computation.
constexpr std::array<std::string_view, 15> kOtherComputations{"use_dora",
                                                              "lora_bias",
                                                              "modules_to_save",
                                                              "layer_replication",
                                                              "target_parameters",
                                                              "use_qalora",
                                                              "use_bdlora",
                                                              "arrow_config",
                                                              "kasa_config",
                                                              "velora_config",
                                                              "monteclora_config",
                                                              "megatron_config",
                                                              "trainable_token_indices",
                                                              "alora_invocation_tokens",
                                                              "lora_ga_config"};

// Initialisations that move the base weights: the factors then do not describe a change of the
// published base.
constexpr std::array<std::string_view, 5> kBaseChangingInits{"pissa", "olora", "corda", "loftq",
                                                             "lora_ga"};

Error wrong(const std::string& where, std::string_view key, std::string what, std::string rule) {
  return {.code = ErrorCode::kFormat,
          .what = std::string(key) + " " + std::move(what),
          .where = where,
          .rule = std::move(rule),
          .remedy = "save the adapter again with PEFT's save_pretrained"};
}

Error unsupported(const std::string& where, std::string what, std::string remedy) {
  return {.code = ErrorCode::kUnsupported,
          .what = std::move(what),
          .where = where,
          .rule = "strata reads plain LoRA adapters",
          .remedy = std::move(remedy)};
}

std::string shown(const Json& value) {
  return printable(value.dump(-1, ' ', true, Json::error_handler_t::replace), 60);
}

bool is_absent(const Json& value) {
  return value.is_null() || value == Json(false) || value == Json(0) ||
         (value.is_structured() && value.empty());
}

const Json* find(const Json& config, std::string_view key) {
  const auto found = config.find(key);
  return found == config.end() || found->is_null() ? nullptr : &*found;
}

Result<std::int64_t> rank_of(const Json& value, std::string_view key, const std::string& where) {
  if (!value.is_number_integer() || value < 1 || value > kRankMax) {
    return fail(
        wrong(where, key, "is " + shown(value), "a rank is a whole number between 1 and 65536"));
  }
  return value.get<std::int64_t>();
}

Result<double> alpha_of(const Json& value, std::string_view key, const std::string& where) {
  if (!value.is_number() || !std::isfinite(value.get<double>())) {
    return fail(wrong(where, key, "is " + shown(value), "an alpha is a finite number"));
  }
  return value.get<double>();
}

Result<bool> flag_of(const Json& config, std::string_view key, const std::string& where) {
  const Json* value = find(config, key);
  if (value == nullptr) return false;
  if (!value->is_boolean())
    return fail(wrong(where, key, "is " + shown(*value), "it is true or false"));
  return value->get<bool>();
}

template <class T>
Result<std::vector<std::pair<std::string, T>>> pattern_of(
    const Json& config, std::string_view key, const std::string& where,
    Result<T> (*value_of)(const Json&, std::string_view, const std::string&)) {
  std::vector<std::pair<std::string, T>> out;
  const Json* patterns = find(config, key);
  if (patterns == nullptr) return out;
  if (!patterns->is_object()) {
    return fail(wrong(where, key, "is " + shown(*patterns),
                      "it is an object: module name pattern -> value"));
  }
  for (const auto& [name, value] : patterns->items()) {
    auto read = value_of(value, std::string(key) + "[\"" + printable(name, 80) + "\"]", where);
    if (!read) return fail(std::move(read).error());
    out.emplace_back(name, *read);
  }
  return out;
}

Result<void> refuse_other_computations(const Json& config, const std::string& where) {
  const Json* type = find(config, "peft_type");
  if (type == nullptr || *type != "LORA") {
    return fail(unsupported(where, "peft_type is " + (type == nullptr ? "missing" : shown(*type)),
                            "convert it to LORA, or merge it into the base with PEFT"));
  }
  const Json* bias = find(config, "bias");
  if (bias != nullptr && *bias != "none") {
    return fail(unsupported(where, "bias is " + shown(*bias),
                            "train with bias=\"none\", or merge the adapter with PEFT"));
  }
  for (const auto key : kOtherComputations) {
    const Json* value = find(config, key);
    if (value == nullptr || is_absent(*value)) continue;
    return fail(unsupported(where, std::string(key) + " is " + shown(*value),
                            "merge the adapter into the base with PEFT"));
  }
  const Json* init = find(config, "init_lora_weights");
  if (init == nullptr || !init->is_string()) return {};
  for (const auto name : kBaseChangingInits) {
    if (!init->get_ref<const std::string&>().starts_with(name)) continue;
    return fail(unsupported(
        where, "init_lora_weights is " + shown(*init) + ", which changes the base weights",
        "convert it on saving (path_initial_model_for_weight_conversion)"));
  }
  return {};
}

Result<std::vector<std::string>> targets_of(const Json& config, const std::string& where) {
  const Json* targets = find(config, "target_modules");
  if (targets == nullptr || targets->is_string()) return std::vector<std::string>{};
  const auto is_text = [](const Json& item) { return item.is_string(); };
  if (!targets->is_array() || !std::all_of(targets->begin(), targets->end(), is_text)) {
    return fail(wrong(where, "target_modules", "is " + shown(*targets),
                      "it is a list of names or one expression"));
  }
  for (const auto* key : {"layers_to_transform", "layers_pattern", "exclude_modules"}) {
    const Json* narrowed = find(config, key);
    if (narrowed != nullptr && !(narrowed->is_structured() && narrowed->empty()))
      return std::vector<std::string>{};
  }
  return targets->get<std::vector<std::string>>();
}

}  // namespace

Result<PeftConfig> parse_peft_config(std::string_view json, const std::string& where) {
  Json config;
  if (json_depth(json) <= kJsonDepthMax) config = Json::parse(json, nullptr, false);
  if (!config.is_object()) {
    return fail({.code = ErrorCode::kFormat,
                 .what = "not a JSON object",
                 .where = where,
                 .rule = "adapter_config.json describes one adapter",
                 .remedy = "copy the file again"});
  }
  if (auto plain = refuse_other_computations(config, where); !plain)
    return fail(std::move(plain).error());
  PeftConfig out;
  if (const Json* base = find(config, "base_model_name_or_path");
      base != nullptr && base->is_string()) {
    out.base_model = base->get<std::string>();
  }
  // PEFT leaves a key out of the file only if an older version did not know it; r and lora_alpha
  // have always been there.
  const Json none;
  const Json* rank = find(config, "r");
  auto read_rank = rank_of(rank == nullptr ? none : *rank, "r", where);
  if (!read_rank) return fail(std::move(read_rank).error());
  const Json* alpha = find(config, "lora_alpha");
  auto read_alpha = alpha_of(alpha == nullptr ? none : *alpha, "lora_alpha", where);
  if (!read_alpha) return fail(std::move(read_alpha).error());
  auto rslora = flag_of(config, "use_rslora", where);
  if (!rslora) return fail(std::move(rslora).error());
  auto fan = flag_of(config, "fan_in_fan_out", where);
  if (!fan) return fail(std::move(fan).error());
  auto ranks = pattern_of<std::int64_t>(config, "rank_pattern", where, rank_of);
  if (!ranks) return fail(std::move(ranks).error());
  auto alphas = pattern_of<double>(config, "alpha_pattern", where, alpha_of);
  if (!alphas) return fail(std::move(alphas).error());
  auto targets = targets_of(config, where);
  if (!targets) return fail(std::move(targets).error());
  out.rank = *read_rank;
  out.alpha = *read_alpha;
  out.use_rslora = *rslora;
  out.fan_in_fan_out = *fan;
  out.rank_pattern = *std::move(ranks);
  out.alpha_pattern = *std::move(alphas);
  out.target_modules = *std::move(targets);
  return out;
}

}  // namespace strata::exporting

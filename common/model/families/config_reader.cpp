#include "model/families/config_reader.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/json_depth.h"

namespace strata::model {
namespace {

constexpr std::size_t kLayersMax = 10000;  // ten times the deepest model there is

}  // namespace

ConfigReader::ConfigReader(std::string_view json, std::string where) : where_(std::move(where)) {
  const bool deep = json_depth(json) > kJsonDepthMax;
  if (!deep) root_ = nlohmann::json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (!root_.is_object()) {
    set_error({.code = ErrorCode::kFormat,
               .what = deep                   ? "is nested too deeply"
                       : root_.is_discarded() ? "is not valid JSON"
                                              : "is not a JSON object",
               .where = where_,
               .rule = "config.json describes the model as one JSON object",
               .remedy = "fetch the file again"});
  }
}

const nlohmann::json* ConfigReader::find(std::string_view key) const {
  if (!root_.is_object()) return nullptr;
  const auto found = root_.find(key);
  return found == root_.end() || found->is_null() ? nullptr : &*found;
}

bool ConfigReader::has(std::string_view key) const { return find(key) != nullptr; }

void ConfigReader::set_error(Error error) {
  if (!error_) error_ = std::move(error);
}

void ConfigReader::wrong_value(const std::string& key, const nlohmann::json& value,
                               std::string rule) {
  set_error({.code = ErrorCode::kFormat,
             .what = "is " + printable(value.dump(-1, ' ', /*ensure_ascii=*/true), 60),
             .where = where_ + ": " + key,
             .rule = std::move(rule)});
}

void ConfigReader::refuse(std::string_view key, std::string what, std::string rule) {
  set_error({.code = ErrorCode::kUnsupported,
             .what = std::move(what),
             .where = where_ + ": " + std::string(key),
             .rule = std::move(rule)});
}

double ConfigReader::number(std::string_view key, std::optional<double> fallback) {
  const auto* value = find(key);
  if (value == nullptr) {
    if (!fallback)
      set_error({.code = ErrorCode::kFormat,
                 .what = "is missing",
                 .where = where_ + ": " + std::string(key)});
    return fallback.value_or(1.0);
  }
  if (!value->is_number() || !std::isfinite(value->get<double>())) {
    wrong_value(std::string(key), *value, "must be a finite number");
    return 1.0;
  }
  return value->get<double>();
}

std::size_t ConfigReader::size(std::string_view key, std::optional<std::size_t> fallback) {
  const auto* value = find(key);
  if (value == nullptr && fallback) return *fallback;
  const double number_value = number(key);
  if (number_value < 0 || number_value > 2147483647.0 || number_value != std::floor(number_value)) {
    wrong_value(std::string(key), *value, "must be a whole number below 2^31");
    return 1;
  }
  return static_cast<std::size_t>(number_value);
}

bool ConfigReader::boolean(std::string_view key, bool fallback) {
  const auto* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) {
    wrong_value(std::string(key), *value, "must be true or false");
    return fallback;
  }
  return value->get<bool>();
}

std::size_t ConfigReader::entries(std::string_view key, std::size_t fallback) {
  const auto* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_object() || value->empty()) {
    wrong_value(std::string(key), *value, "must be an object with an entry for each");
    return fallback;
  }
  return value->size();
}

std::string ConfigReader::text(std::string_view key, std::string fallback) {
  const auto* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_string()) {
    wrong_value(std::string(key), *value, "must be a string");
    return fallback;
  }
  return value->get<std::string>();
}

void ConfigReader::expect_text(std::string_view key,
                               std::initializer_list<std::string_view> supported) {
  const std::string value = text(key, std::string(*supported.begin()));
  if (std::find(supported.begin(), supported.end(), value) != supported.end()) return;
  std::string rule = "supported:";
  for (const auto name : supported) rule += " " + std::string(name);
  refuse(key, "is \"" + printable(value, 60) + "\"", rule);
}

void ConfigReader::expect_number(std::string_view key, double supported) {
  const double value = number(key, supported);
  if (value != supported)
    refuse(key, "is " + std::to_string(value),
           "only " + std::to_string(supported) + " is supported");
}

double ConfigReader::rope_number(const nlohmann::json& scaling, const std::string& key,
                                 std::optional<double> fallback) {
  const auto found = scaling.find(key);
  const std::string place = "rope_scaling." + key;
  if (found == scaling.end() || found->is_null()) {
    if (!fallback)
      set_error({.code = ErrorCode::kFormat, .what = "is missing", .where = where_ + ": " + place});
    return fallback.value_or(1.0);
  }
  if (!found->is_number() || !std::isfinite(found->get<double>())) {
    wrong_value(place, *found, "must be a finite number");
    return 1.0;
  }
  return found->get<double>();
}

void ConfigReader::rope(DecoderConfig& config) {
  // Newer files keep everything in `rope_parameters`, older ones in `rope_theta` and
  // `rope_scaling`.
  const auto* newer = find("rope_parameters");
  const auto* scaling = newer != nullptr ? newer : find("rope_scaling");
  config.rope_theta = number("rope_theta", 10000.0);
  if (scaling == nullptr) return;
  if (!scaling->is_object())
    return refuse("rope_scaling", "is not an object", "see the model's documentation");
  config.rope_theta = rope_number(*scaling, "rope_theta", config.rope_theta);
  std::string kind = "default";
  for (const char* key : {"type", "rope_type"}) {
    const auto found = scaling->find(key);
    if (found == scaling->end() || found->is_null()) continue;
    if (!found->is_string())
      return wrong_value(std::string("rope_scaling.") + key, *found, "must be a string");
    kind = found->get<std::string>();
  }
  if (kind == "default") return;
  if (kind != "llama3")
    return refuse("rope_scaling", "is of type \"" + printable(kind, 60) + "\"",
                  "supported: default llama3");
  Llama3Scaling llama3;
  llama3.factor = rope_number(*scaling, "factor");
  llama3.low_freq_factor = rope_number(*scaling, "low_freq_factor");
  llama3.high_freq_factor = rope_number(*scaling, "high_freq_factor");
  llama3.original_max_positions = rope_number(*scaling, "original_max_position_embeddings");
  if (!(llama3.factor > 0) || !(llama3.low_freq_factor > 0) ||
      !(llama3.high_freq_factor > llama3.low_freq_factor) || !(llama3.original_max_positions > 0)) {
    return refuse("rope_scaling", "has factors out of order",
                  "factor, low_freq_factor and original_max_position_embeddings are positive, and "
                  "high_freq_factor is above low_freq_factor");
  }
  config.rope_scaling = llama3;
}

void ConfigReader::optional_window(DecoderConfig& config) {
  if (boolean("use_sliding_window", false) && has("sliding_window")) {
    config.sliding_window = size("sliding_window");
    config.sliding_from_layer = size("max_window_layers", 28);
  }
  const auto* types = find("layer_types");
  if (types == nullptr || error_) return;
  const std::string rule =
      "one \"full_attention\" or \"sliding_attention\" for each layer, full ones first";
  if (!types->is_array() || types->size() != config.layers)
    return wrong_value("layer_types", *types, rule);
  std::size_t full = 0;
  while (full < types->size() && (*types)[full] == "full_attention") ++full;
  for (std::size_t layer = full; layer < types->size(); ++layer) {
    if ((*types)[layer] != "sliding_attention")
      return refuse("layer_types[" + std::to_string(layer) + "]",
                    "is " + printable((*types)[layer].dump(-1, ' ', true), 60), rule);
  }
  if (full < types->size() && config.sliding_window == 0)
    return refuse("layer_types", "has sliding layers",
                  "they need use_sliding_window and a sliding_window");
  config.sliding_from_layer = full;
}

Result<DecoderConfig> ConfigReader::finish(DecoderConfig c) {
  const auto positive = [&](std::size_t value, const char* key) {
    if (value != 0) return;
    set_error({.code = ErrorCode::kFormat,
               .what = "is 0",
               .where = where_ + ": " + key,
               .rule = "must be positive"});
  };
  if (!error_) {
    positive(c.hidden, "hidden size");
    positive(c.intermediate, "intermediate size");
    positive(c.layers, "number of layers");
    positive(c.heads, "number of attention heads");
    positive(c.kv_heads, "number of key/value heads");
    positive(c.head_dim, "head dimension");
    positive(c.vocab, "vocab_size");
    positive(c.max_positions, "maximum positions");
  }
  if (!error_ && c.layers > kLayersMax) {
    set_error({.code = ErrorCode::kFormat,
               .what = std::to_string(c.layers) + " layers",
               .where = where_,
               .rule = "at most " + std::to_string(kLayersMax)});
  }
  if (!error_ && !(c.norm_epsilon >= 0.0f)) {
    set_error({.code = ErrorCode::kFormat,
               .what = "the norms' epsilon is " + std::to_string(c.norm_epsilon),
               .where = where_,
               .rule = "must not be negative"});
  }
  if (!error_ && c.position == PositionKind::kRotary && !(c.rope_theta > 0.0)) {
    set_error({.code = ErrorCode::kFormat,
               .what = "is " + std::to_string(c.rope_theta),
               .where = where_ + ": rope_theta",
               .rule = "must be positive"});
  }
  if (!error_ && c.heads % c.kv_heads != 0) {
    set_error({.code = ErrorCode::kFormat,
               .what = std::to_string(c.heads) + " heads do not divide over " +
                       std::to_string(c.kv_heads) + " key/value heads",
               .where = where_});
  }
  if (!error_ && c.position == PositionKind::kRotary && c.head_dim % 2 != 0) {
    set_error({.code = ErrorCode::kFormat,
               .what = "head dimension " + std::to_string(c.head_dim) + " is odd",
               .where = where_,
               .rule = "rotary positions need an even one"});
  }
  if (error_) return tl::unexpected<Error>(*error_);
  return c;
}

}  // namespace strata::model

#include "model/families/config_reader.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace strata::model {

ConfigReader::ConfigReader(std::string_view json, std::string where) : where_(std::move(where)) {
  root_ = nlohmann::json::parse(json, nullptr, /*allow_exceptions=*/false);
  if (!root_.is_object()) {
    set_error({.code = ErrorCode::kFormat,
               .what = "is not a JSON object",
               .where = where_,
               .remedy = "give the folder of a Hugging Face model"});
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

void ConfigReader::refuse(std::string_view key, std::string what, std::string rule) {
  set_error({.code = ErrorCode::kUnsupported,
             .what = std::move(what),
             .where = where_ + ": " + std::string(key),
             .rule = std::move(rule)});
}

double ConfigReader::number(std::string_view key, std::optional<double> fallback) {
  const auto* value = find(key);
  const std::string where = where_ + ": " + std::string(key);
  if (value == nullptr) {
    if (!fallback) set_error({.code = ErrorCode::kFormat, .what = "is missing", .where = where});
    return fallback.value_or(1.0);
  }
  if (!value->is_number() || !std::isfinite(value->get<double>())) {
    set_error({.code = ErrorCode::kFormat,
               .what = "is " + value->dump().substr(0, 60),
               .where = where,
               .rule = "must be a finite number"});
    return 1.0;
  }
  return value->get<double>();
}

std::size_t ConfigReader::size(std::string_view key, std::optional<std::size_t> fallback) {
  const auto* value = find(key);
  if (value == nullptr && fallback) return *fallback;
  const double number_value = number(key);
  if (number_value < 0 || number_value > 2147483647.0 || number_value != std::floor(number_value)) {
    set_error({.code = ErrorCode::kFormat,
               .what = "is " + value->dump().substr(0, 60),
               .where = where_ + ": " + std::string(key),
               .rule = "must be a whole number below 2^31"});
    return 1;
  }
  return static_cast<std::size_t>(number_value);
}

bool ConfigReader::boolean(std::string_view key, bool fallback) {
  const auto* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) {
    set_error({.code = ErrorCode::kFormat,
               .what = "is " + value->dump().substr(0, 60),
               .where = where_ + ": " + std::string(key),
               .rule = "must be true or false"});
    return fallback;
  }
  return value->get<bool>();
}

std::string ConfigReader::text(std::string_view key, std::string fallback) {
  const auto* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_string()) {
    set_error({.code = ErrorCode::kFormat,
               .what = "is " + value->dump().substr(0, 60),
               .where = where_ + ": " + std::string(key),
               .rule = "must be a string"});
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
  refuse(key, "is \"" + value + "\"", rule);
}

void ConfigReader::expect_number(std::string_view key, double supported) {
  const double value = number(key, supported);
  if (value != supported)
    refuse(key, "is " + std::to_string(value),
           "only " + std::to_string(supported) + " is supported");
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
  const auto inner = [&](const char* key, double fallback) {
    const auto found = scaling->find(key);
    if (found == scaling->end() || !found->is_number()) return fallback;
    return found->get<double>();
  };
  config.rope_theta = inner("rope_theta", config.rope_theta);
  std::string kind = "default";
  for (const char* key : {"type", "rope_type"}) {
    const auto found = scaling->find(key);
    if (found != scaling->end() && found->is_string()) kind = found->get<std::string>();
  }
  if (kind == "default") return;
  if (kind != "llama3")
    return refuse("rope_scaling", "is of type \"" + kind + "\"", "supported: default llama3");
  Llama3Scaling llama3;
  llama3.factor = inner("factor", llama3.factor);
  llama3.low_freq_factor = inner("low_freq_factor", llama3.low_freq_factor);
  llama3.high_freq_factor = inner("high_freq_factor", llama3.high_freq_factor);
  llama3.original_max_positions =
      inner("original_max_position_embeddings", llama3.original_max_positions);
  if (!(llama3.factor > 0) || !(llama3.high_freq_factor > llama3.low_freq_factor)) {
    return refuse("rope_scaling", "has factors out of order",
                  "factor > 0 and high_freq_factor > low_freq_factor");
  }
  config.rope_scaling = llama3;
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

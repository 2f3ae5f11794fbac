#pragma once
// Typed reading of a Hugging Face config.json: each getter checks kind and range and names file and
// key.
#include <cstddef>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "model/decoder_config.h"

namespace strata::model {

/// The first failure is remembered; getters return harmless values after it, so a family reads all
/// keys and asks once.
class ConfigReader {
 public:
  ConfigReader(std::string_view json, std::string where);

  std::size_t size(std::string_view key, std::optional<std::size_t> fallback = std::nullopt);
  double number(std::string_view key, std::optional<double> fallback = std::nullopt);
  bool boolean(std::string_view key, bool fallback);
  /// How many members an object has.
  std::size_t entries(std::string_view key, std::size_t fallback);
  std::string text(std::string_view key, std::string fallback);
  [[nodiscard]] bool has(std::string_view key) const;  // present and not null
  [[nodiscard]] const std::optional<Error>& error() const { return error_; }
  /// Fails unless `key` is absent or one of the values strata implements.
  void expect_text(std::string_view key, std::initializer_list<std::string_view> supported);
  void expect_number(std::string_view key, double supported);
  /// rope_theta and rope_scaling in both spellings (older keys, newer `rope_parameters`).
  void rope(DecoderConfig& config);
  /// use_sliding_window, sliding_window, and which layers have the window: max_window_layers, or
  /// the list `layer_types` of newer files.
  void optional_window(DecoderConfig& config);
  void refuse(std::string_view key, std::string what, std::string rule);

  /// The config if nothing failed and its sizes fit together.
  [[nodiscard]] Result<DecoderConfig> finish(DecoderConfig config);

 private:
  const nlohmann::json* find(std::string_view key) const;
  void set_error(Error error);
  void wrong_value(const std::string& key, const nlohmann::json& value, std::string rule);
  double rope_number(const nlohmann::json& scaling, const std::string& key,
                     std::optional<double> fallback = std::nullopt);

  nlohmann::json root_;
  std::string where_;
  std::optional<Error> error_;
};

}  // namespace strata::model

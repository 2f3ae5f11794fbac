#pragma once
// A job file as JSON with its overrides applied, and the first rule broken while reading it. For
// reader.cpp only.
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"

namespace strata::config {

struct Document {
  std::string file;
  std::filesystem::path folder;  // relative paths start here
  nlohmann::ordered_json root = nlohmann::ordered_json::object();
  std::set<std::string> overridden;  // key paths whose value came from --set
  std::optional<Error> error;

  /// Whether the value at `path`, or something it lies in, came from --set.
  [[nodiscard]] bool is_set(const std::string& path) const;

  /// Keeps the first refusal. `path` is a key path such as "clients[0].rank"; empty means the whole
  /// file.
  void refuse(const std::string& path, std::string what, std::string rule, std::string remedy = {});
};

/// `value` as JSON, short enough for a message and free of control bytes.
[[nodiscard]] std::string text_of(const nlohmann::ordered_json& value);

/// Comments are allowed; duplicate keys and deep nesting, which the library would let pass, are
/// refused.
[[nodiscard]] Document parse_document(std::string_view text, const std::string& file,
                                      std::span<const std::string> overrides);

}  // namespace strata::config

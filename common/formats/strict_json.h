#pragma once
// JSON inside tensor files, read strictly: for the sources of this folder only.
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/result.h"

namespace strata::formats {

/// kFormat about a damaged file.
[[nodiscard]] Error broken(const std::string& where, std::string what, std::string rule = {});

/// An object, depth-capped, duplicate keys refused (the library would keep the last one silently).
[[nodiscard]] Result<nlohmann::json> parse_strict(std::string_view text, const std::string& where);

}  // namespace strata::formats

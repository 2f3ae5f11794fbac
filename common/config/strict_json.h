#pragma once
// JSON of files that others made, read strictly: the library itself would keep the last of two
// equal keys and say nothing.
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace strata::config {

/// An object nested at most `depth_max` deep, every key once in its object. Otherwise `problem`
/// says what is wrong, to be put behind the name of the file: "is nested too deeply", "has the key
/// "a" twice", "is not a JSON object".
[[nodiscard]] nlohmann::json parse_strict(std::string_view text, int depth_max,
                                          std::string& problem);

}  // namespace strata::config

#include "config/strict_json.h"

#include <set>
#include <vector>

#include "base/error.h"

namespace strata::config {

using nlohmann::json;

json parse_strict(std::string_view text, int depth_max, std::string& problem) {
  std::vector<std::set<std::string>> keys;
  problem.clear();
  const auto watch = [&](int depth, json::parse_event_t event, json& parsed) {
    if (depth > depth_max && problem.empty()) problem = "is nested too deeply";
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end && !keys.empty()) keys.pop_back();
    if (event == json::parse_event_t::key && !keys.empty() &&
        !keys.back().insert(parsed.get<std::string>()).second && problem.empty()) {
      problem = "has the key \"" + printable(parsed.get<std::string>(), 80) + "\" twice";
    }
    return problem.empty();
  };
  json out = json::parse(text, watch, /*allow_exceptions=*/false);
  if (problem.empty() && !out.is_object()) problem = "is not a JSON object";
  return out;
}

}  // namespace strata::config

#include "formats/strict_json.h"

#include <set>
#include <vector>

namespace strata::formats {
namespace {

using nlohmann::json;

constexpr int kHeaderDepthMax = 8;

}  // namespace

Error broken(const std::string& where, std::string what, std::string rule) {
  return {.code = ErrorCode::kFormat,
          .what = std::move(what),
          .where = where,
          .rule = std::move(rule),
          .remedy = "fetch or export the file again"};
}

Result<json> parse_strict(std::string_view text, const std::string& where) {
  std::vector<std::set<std::string>> keys;
  std::string problem;
  const auto watch = [&](int depth, json::parse_event_t event, json& parsed) {
    if (depth > kHeaderDepthMax && problem.empty()) problem = "is nested too deeply";
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end && !keys.empty()) keys.pop_back();
    if (event == json::parse_event_t::key && !keys.empty() &&
        !keys.back().insert(parsed.get<std::string>()).second && problem.empty()) {
      problem = "has the key \"" + printable(parsed.get<std::string>(), 80) + "\" twice";
    }
    return problem.empty();
  };
  json out = json::parse(text, watch, /*allow_exceptions=*/false);
  if (!problem.empty()) return fail(broken(where, "header " + problem));
  if (!out.is_object()) return fail(broken(where, "header is not a JSON object"));
  return out;
}

}  // namespace strata::formats

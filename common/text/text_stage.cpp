#include "text/text_stage.h"

#include <nlohmann/json.hpp>

#include "text/regex.h"
#include "text/unicode.h"

namespace strata::text {

tl::unexpected<Error> unsupported_stage(const StageSource& source, std::string_view supported) {
  return fail({.code = ErrorCode::kUnsupported,
               .what = "is of type \"" + printable(stage_type(source), 60) + "\"",
               .where = source.where,
               .rule = "supported: " + std::string(supported)});
}

std::string stage_type(const StageSource& source) {
  const auto found = source.json.is_object() ? source.json.find("type") : source.json.end();
  return source.json.is_object() && found != source.json.end() && found->is_string()
             ? found->get<std::string>()
             : "?";
}

Result<std::function<std::vector<std::pair<std::size_t, std::size_t>>(std::string_view)>>
make_pattern(const StageSource& source) {
  using Find = std::function<std::vector<std::pair<std::size_t, std::size_t>>(std::string_view)>;
  const auto pattern = source.json.find("pattern");
  if (pattern != source.json.end() && pattern->is_object() && pattern->contains("String") &&
      (*pattern)["String"].is_string()) {
    return Find([literal = (*pattern)["String"].get<std::string>()](std::string_view text) {
      std::vector<std::pair<std::size_t, std::size_t>> out;
      if (literal.empty()) return out;
      for (std::size_t at = text.find(literal); at != std::string_view::npos;
           at = text.find(literal, at + literal.size())) {
        out.emplace_back(at, at + literal.size());
      }
      return out;
    });
  }
  if (pattern != source.json.end() && pattern->is_object() && pattern->contains("Regex") &&
      (*pattern)["Regex"].is_string()) {
    auto regex = Regex::compile((*pattern)["Regex"].get<std::string>(), source.where);
    if (!regex) return fail(std::move(regex).error());
    return Find([r = std::move(*regex)](std::string_view text) { return r.find_all(text); });
  }
  return fail({.code = ErrorCode::kFormat,
               .what = "has no pattern",
               .where = source.where,
               .rule = "a pattern is {\"String\": ...} or {\"Regex\": ...}"});
}

const std::array<std::string, 256>& byte_characters() {
  static const std::array<std::string, 256> kTable = [] {
    std::array<std::string, 256> out;
    char32_t next = 256;
    for (unsigned byte = 0; byte < 256; ++byte) {
      const bool shown = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
      append_utf8(out[byte], shown ? static_cast<char32_t>(byte) : next++);
    }
    return out;
  }();
  return kTable;
}

}  // namespace strata::text

#include <nlohmann/json.hpp>

#include "text/text_stage.h"
#include "text/unicode.h"

namespace strata::text {
namespace {

Normalize form(NormalForm kind) {
  return [kind](const std::string& text) { return normal_form(text, kind); };
}

Result<Normalize> sequence(const StageSource& source) {
  std::vector<Normalize> steps;
  for (const auto& step : source.json.value("normalizers", nlohmann::json::array())) {
    auto made = make_normalizer({step, source.where});
    if (!made) return made;
    steps.push_back(std::move(*made));
  }
  return Normalize([steps = std::move(steps)](std::string text) {
    for (const auto& step : steps) text = step(std::move(text));
    return text;
  });
}

Result<Normalize> replace(const StageSource& source) {
  auto find = make_pattern(source);
  if (!find) return fail(std::move(find).error());
  return Normalize([find = std::move(*find),
                    content = source.json.value("content", std::string())](std::string text) {
    const auto matches = find(text);
    if (matches.empty()) return text;
    std::string out;
    std::size_t at = 0;
    for (const auto& [begin, end] : matches) {
      out.append(text, at, begin - at);
      out += content;
      at = end;
    }
    out.append(text, at);
    return out;
  });
}

std::string strip(std::string text, bool left, bool right) {
  std::size_t begin = 0, end = text.size();
  while (left && begin < end) {
    const auto c = character_at(text, begin);
    if (!is_white_space(c.code)) break;
    begin += c.bytes;
  }
  while (right && end > begin) {
    std::size_t last = end - 1;
    while ((static_cast<unsigned char>(text[last]) & 0xc0u) == 0x80u) --last;
    if (!is_white_space(character_at(text, last).code)) break;
    end = last;
  }
  return text.substr(begin, end - begin);
}

}  // namespace

Result<Normalize> make_normalizer(const StageSource& source) {
  const std::string type = stage_type(source);
  if (type == "NFC") return form(NormalForm::kNfc);
  if (type == "NFD") return form(NormalForm::kNfd);
  if (type == "NFKC") return form(NormalForm::kNfkc);
  if (type == "NFKD") return form(NormalForm::kNfkd);
  if (type == "Lowercase")
    return Normalize([](const std::string& text) { return lower_case(text); });
  if (type == "Prepend") {
    return Normalize([prefix = source.json.value("prepend", std::string())](
                         const std::string& text) { return text.empty() ? text : prefix + text; });
  }
  if (type == "Replace") return replace(source);
  if (type == "Strip") {
    return Normalize([left = source.json.value("strip_left", true),
                      right = source.json.value("strip_right", true)](std::string text) {
      return strip(std::move(text), left, right);
    });
  }
  if (type == "Sequence") return sequence(source);
  return unsupported_stage(source, "NFC NFD NFKC NFKD Lowercase Prepend Replace Strip Sequence");
}

}  // namespace strata::text

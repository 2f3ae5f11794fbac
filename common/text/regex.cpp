#include "text/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace strata::text {

struct Regex::Code {
  pcre2_code* code;
  explicit Code(pcre2_code* c) : code(c) {}
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  ~Code() { pcre2_code_free(code); }
};

namespace {

// White space as Unicode has it. PCRE2's own \s also takes U+180E, which is no space since
// Unicode 6.3.
constexpr std::string_view kSpaces = R"(\t-\r\x{85}\p{Z})";

// The expression with \s and \S spelled out; everything else means the same to both libraries.
std::string translated(std::string_view pattern) {
  std::string out;
  bool in_class = false;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      const char next = pattern[++i];
      if (next == 's') {
        out += in_class ? std::string(kSpaces) : "[" + std::string(kSpaces) + "]";
      } else if (next == 'S' && !in_class) {
        out += "[^" + std::string(kSpaces) + "]";
      } else {
        out += c;
        out += next;
      }
      continue;
    }
    if (c == '[') in_class = true;
    if (c == ']') in_class = false;
    out += c;
  }
  return out;
}

}  // namespace

Result<Regex> Regex::compile(std::string_view pattern, const std::string& where) {
  const std::string text = translated(pattern);
  int number = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                   PCRE2_UTF | PCRE2_UCP, &number, &offset, nullptr);
  if (code == nullptr) {
    PCRE2_UCHAR message[128];
    pcre2_get_error_message(number, message, sizeof message);
    return fail({.code = ErrorCode::kFormat,
                 .what = "\"" + printable(pattern, 120) +
                         "\" is not a regular expression: " + reinterpret_cast<char*>(message),
                 .where = where});
  }
  (void)pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // without it matching is only slower
  return Regex(std::make_shared<const Code>(code));
}

std::vector<std::pair<std::size_t, std::size_t>> Regex::find_all(std::string_view text) const {
  std::vector<std::pair<std::size_t, std::size_t>> out;
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  std::size_t at = 0;
  while (at < text.size()) {
    const int found = pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(text.data()),
                                  text.size(), at, PCRE2_NO_UTF_CHECK, data, nullptr);
    if (found < 0) break;
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(data);
    if (range[1] > range[0]) {
      out.emplace_back(range[0], range[1]);
      at = range[1];
    } else {  // an empty match: step over one character
      at = range[1] + 1;
      while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0u) == 0x80u) ++at;
    }
  }
  pcre2_match_data_free(data);
  return out;
}

}  // namespace strata::text

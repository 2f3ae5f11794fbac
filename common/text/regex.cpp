#include "text/regex.h"

#include <algorithm>
#include <optional>

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

// Classes as Oniguruma has them, written for the inside of brackets. PCRE2's own \s also takes
// U+180E, which is no space since Unicode 6.3; its \w leaves out marks, letter numbers, joining
// punctuation and the circled and squared letters.
constexpr std::string_view kSpaces = R"(\t-\r\x{85}\p{Z})";
constexpr std::string_view kWords =
    R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{24b6}-\x{24e9}\x{1f130}-\x{1f149}\x{1f150}-\x{1f169}\x{1f170}-\x{1f189})";
// Outside brackets it also takes the Latin-1 superscripts and fractions.
constexpr std::string_view kLatin1Words = R"(\x{b2}\x{b3}\x{b9}\x{bc}-\x{be})";
constexpr std::string_view kHex = "0-9A-Fa-f";

std::string set_of(std::string_view inside) { return "[" + std::string(inside) + "]"; }
std::string not_in(std::string_view inside) { return "[^" + std::string(inside) + "]"; }

pcre2_code* compile_code(std::string_view text, int& number) {
  PCRE2_SIZE offset = 0;
  return pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                       PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &number, &offset, nullptr);
}

// An expression written for Oniguruma, as the tokenizers library reads it (Ruby's syntax, in which
// ^ and $ are ends of lines), in PCRE2's words. What would silently mean something else is refused.
class Translation {
 public:
  explicit Translation(std::string_view pattern) : pattern_(pattern) {}

  /// Nothing when the expression uses what `problem` then names.
  std::optional<std::string> run() {
    while (at_ < pattern_.size() && problem_.empty()) {
      const char c = pattern_[at_];
      if (c == '\\') {
        escape();
      } else if (in_class_) {
        inside_class();
      } else {
        outside_class();
      }
    }
    if (!problem_.empty()) return std::nullopt;
    return out_;
  }
  [[nodiscard]] const std::string& problem() const { return problem_; }

 private:
  void copy(std::size_t n) {
    out_ += pattern_.substr(at_, n);
    at_ += n;
  }
  void put(std::string_view text, std::size_t consumed) {
    out_ += text;
    at_ += consumed;
  }

  void escape() {
    class_is_new_ = false;
    const char next = at_ + 1 < pattern_.size() ? pattern_[at_ + 1] : '\0';
    const std::string words = std::string(kWords) + std::string(kLatin1Words);
    switch (next) {
      case 's':
        return put(in_class_ ? std::string(kSpaces) : set_of(kSpaces), 2);
      case 'w':
        return put(in_class_ ? std::string(kWords) : set_of(words), 2);
      case 'h':
        return put(in_class_ ? std::string(kHex) : set_of(kHex), 2);
      case 'v':
        return put(R"(\x0b)", 2);
      case 'p':
      case 'P':
        return property();
      case 'S':
      case 'W':
      case 'H':
      case 'b':
      case 'B':
        break;
      default:
        return copy(std::min<std::size_t>(2, pattern_.size() - at_));
    }
    if (in_class_) {
      if (next == 'b') return copy(2);  // a backspace
      // [^\S\r\n] and the like: PCRE2 has no way to write the complement of a set inside a set.
      // Its own \S only differs in U+180E.
      if (next == 'S') return copy(2);
      problem_ = std::string("\\") + next + " in brackets";
      return;
    }
    if (next == 'S') return put(not_in(kSpaces), 2);
    if (next == 'W') return put(not_in(words), 2);
    if (next == 'H') return put(not_in(kHex), 2);
    const std::string behind = "(?<=" + set_of(words) + ")", before = "(?=" + set_of(words) + ")";
    const std::string not_behind = "(?<!" + set_of(words) + ")",
                      not_before = "(?!" + set_of(words) + ")";
    put(next == 'b' ? "(?:" + behind + not_before + "|" + not_behind + before + ")"
                    : "(?:" + behind + before + "|" + not_behind + not_before + ")",
        2);
  }

  // \p{Han}: a script means the characters of that script, not those also used with it.
  void property() {
    const auto close = pattern_.find('}', at_);
    if (at_ + 2 >= pattern_.size() || pattern_[at_ + 2] != '{' || close == std::string_view::npos)
      return copy(2);
    std::string name(pattern_.substr(at_ + 3, close - at_ - 3));
    const bool negated = name.starts_with('^');
    if (negated) name.erase(0, 1);
    int ignored = 0;
    if (name.size() > 2 && name.find_first_of(":=") == std::string::npos) {
      if (pcre2_code* script = compile_code("\\p{sc:" + name + "}", ignored)) {
        pcre2_code_free(script);
        name = "sc:" + name;
      }
    }
    put(std::string("\\") + pattern_[at_ + 1] + "{" + (negated ? "^" : "") + name + "}",
        close + 1 - at_);
  }

  void inside_class() {
    const char c = pattern_[at_];
    if (c == ']' && !class_is_new_) in_class_ = false;
    if (c == '&' && pattern_.substr(at_).starts_with("&&")) problem_ = "&& in brackets";
    if (c == '[') {
      for (const auto& [name, set] :
           {std::pair<std::string_view, std::string_view>{"[:space:]", kSpaces},
            {"[:digit:]", R"(\p{Nd})"},
            {"[:upper:]", R"(\p{Uppercase})"},
            {"[:lower:]", R"(\p{Lowercase})"},
            {"[:alpha:]", R"(\p{Alphabetic})"},
            {"[:alnum:]", R"(\p{Alphabetic}\p{Nd})"},
            {"[:punct:]", R"(\p{P}\p{S})"},
            {"[:xdigit:]", kHex}}) {
        if (!pattern_.substr(at_).starts_with(name)) continue;
        class_is_new_ = false;
        return put(set, name.size());
      }
      problem_ = "brackets in brackets";
    }
    class_is_new_ = false;
    copy(1);
  }

  void outside_class() {
    const char c = pattern_[at_];
    if (c == '[') {
      in_class_ = class_is_new_ = true;
      return copy(pattern_.substr(at_).starts_with("[^") ? 2 : 1);
    }
    // (?i:...) and (?i) are alike; m means another thing to each library.
    if (pattern_.substr(at_).starts_with("(?")) {
      const auto rest = pattern_.substr(at_ + 2);
      const auto flags = rest.substr(0, rest.find_first_not_of("imsx-"));
      if (flags.find_first_of("msx") != std::string_view::npos)
        problem_ = "the flags (?" + std::string(flags) + ")";
    }
    copy(1);
  }

  std::string_view pattern_;
  std::size_t at_ = 0;
  std::string out_;
  std::string problem_;
  bool in_class_ = false;
  bool class_is_new_ = false;  // only '[' or '[^' has been read of it: a ']' is a character
};

}  // namespace

Result<Regex> Regex::compile(std::string_view pattern, const std::string& where) {
  Translation translation(pattern);
  const auto text = translation.run();
  if (!text) {
    return fail({.code = ErrorCode::kUnsupported,
                 .what = "\"" + printable(pattern, 120) + "\" uses " + translation.problem(),
                 .where = where,
                 .rule = "such expressions are not supported"});
  }
  int number = 0;
  pcre2_code* code = compile_code(*text, number);
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
  while (at <= text.size()) {
    const auto match = [&](std::uint32_t options) {
      return pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                         PCRE2_NO_UTF_CHECK | options, data, nullptr);
    };
    int found = match(0);
    // Compiled matching has a small stack of its own; the interpreter keeps its place on the heap.
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) found = match(PCRE2_NO_JIT);
    if (found < 0) break;
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(data);
    const bool empty = range[1] == range[0];
    // An empty match right behind a match is none.
    if (!empty || out.empty() || out.back().second != range[0])
      out.emplace_back(range[0], range[1]);
    at = range[1];
    if (!empty) continue;
    ++at;  // over one character
    while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xc0u) == 0x80u) ++at;
  }
  pcre2_match_data_free(data);
  return out;
}

}  // namespace strata::text

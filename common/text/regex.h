#pragma once
// Regular expressions of tokenizer files (written for Oniguruma) through PCRE2, Unicode-aware.
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace strata::text {

/// A compiled expression. Immutable; find_all may be called from several threads.
class Regex {
 public:
  /// kFormat when `pattern` is not an expression, kUnsupported for the few constructions that PCRE2
  /// reads differently (sets in sets, flags other than i); `where` names the file.
  [[nodiscard]] static Result<Regex> compile(std::string_view pattern, const std::string& where);
  /// Byte ranges [begin, end) of all matches in valid UTF-8, left to right; a match may be empty,
  /// but not right behind another.
  [[nodiscard]] std::vector<std::pair<std::size_t, std::size_t>> find_all(
      std::string_view text) const;

 private:
  struct Code;
  explicit Regex(std::shared_ptr<const Code> code) : code_(std::move(code)) {}
  std::shared_ptr<const Code> code_;
};

}  // namespace strata::text

#pragma once
// UTF-8 and character classes as Rust's standard library has them, which the tokenizers library is
// written in.
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace strata::text {

/// The character that starts at byte `at` of valid UTF-8, and its length in bytes.
struct Character {
  char32_t code = 0;
  std::size_t bytes = 1;
};
[[nodiscard]] Character character_at(std::string_view text, std::size_t at);
void append_utf8(std::string& out, char32_t code);

/// Position of the first byte that is not valid UTF-8, or nothing.
[[nodiscard]] std::optional<std::size_t> first_invalid(std::string_view bytes);
/// Bytes as UTF-8, each maximal invalid part as U+FFFD (Unicode 3.9, "substitution of maximal
/// subparts").
[[nodiscard]] std::string lossy_utf8(std::string_view bytes);

[[nodiscard]] bool is_white_space(char32_t c);
[[nodiscard]] bool is_numeric(char32_t c);      // Nd, Nl, No
[[nodiscard]] bool is_punctuation(char32_t c);  // ASCII punctuation or category P
[[nodiscard]] bool is_word(char32_t c);  // letters, marks, decimal digits, connectors: a regex \w
[[nodiscard]] std::string lower_case(std::string_view text);

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };
[[nodiscard]] std::string normal_form(std::string_view text, NormalForm form);

}  // namespace strata::text

#pragma once
// Texts to ids and back, one JSON value a line: what `strata tokenize` does to each line of its
// standard input.
#include <cstddef>
#include <istream>
#include <ostream>
#include <string_view>

#include "base/result.h"
#include "text/tokenizer.h"

namespace strata::cli {

struct TokenizeOptions {
  bool decode = false;   // lists of ids in, strings out
  bool special = false;  // encode: run the post-processor; decode: keep special tokens
};

/// A line as JSON without its line break: `"Hello"` -> `[1,2]`, with decode `[1,2]` -> `"Hello"`.
/// kData naming the line: malformed JSON, another type, an id that is no 32-bit number.
[[nodiscard]] Result<std::string> tokenize_line(const text::Tokenizer& tokenizer,
                                                std::string_view line, std::size_t number,
                                                const TokenizeOptions& options);

/// Every line of `in`, in order; blank ones are skipped. Stops at the first error, with the lines
/// before it written.
[[nodiscard]] Result<void> tokenize_lines(const text::Tokenizer& tokenizer, std::istream& in,
                                          std::ostream& out, const TokenizeOptions& options);

}  // namespace strata::cli

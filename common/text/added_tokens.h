#pragma once
// Tokens that are found in the text as they stand, before the model sees it: special ones and
// others (added_tokens of the file).
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/bpe.h"

namespace strata::text {

struct AddedToken {
  Id id = 0;
  std::string content;
  bool single_word = false;  // only between characters that are no word
  bool lstrip = false;       // takes white space before it
  bool rstrip = false;       // and after it
  bool normalized = true;    // looked for in the normalised text
  bool special = false;
};

/// A stretch of text, or an added token.
struct Found {
  std::size_t begin = 0;
  std::size_t end = 0;
  Id id = -1;  // -1: text
};

/// Leftmost-longest search for a set of tokens. Immutable.
class AddedTokenFinder {
 public:
  /// `patterns[i]` is what token i looks like in the searched text.
  AddedTokenFinder(std::vector<AddedToken> tokens, const std::vector<std::string>& patterns);
  [[nodiscard]] std::vector<Found> cut(std::string_view text) const;

 private:
  struct Node {
    std::unordered_map<unsigned char, std::size_t> next;
    std::ptrdiff_t token = -1;
  };
  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_{1};
};

}  // namespace strata::text

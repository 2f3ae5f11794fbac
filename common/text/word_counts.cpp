#include "text/word_counts.h"

#include <algorithm>

#include "text/text_stage.h"

namespace strata::text {

namespace {

// A word that ends this many bytes before the end of a window is the same in the whole document:
// the expression looks at most two characters past a word's end, and at 'll and the like from their
// quote on.
constexpr std::size_t kLookAhead = 8;

bool continues_character(char c) { return (static_cast<unsigned char>(c) & 0xc0u) == 0x80u; }

}  // namespace

Result<WordCounts> WordCounts::make(std::size_t window) {
  auto expression = Regex::compile(kGpt2Words, "GPT-2's expression for words");
  if (!expression) return fail(std::move(expression).error());
  return WordCounts(*std::move(expression), std::max(window, kLookAhead));
}

void WordCounts::add(std::string_view document) {
  bytes_ += document.size();
  std::size_t window = window_;
  for (std::string_view rest = document; !rest.empty();) {
    std::size_t size = std::min(window, rest.size());
    while (size < rest.size() && continues_character(rest[size])) ++size;
    const bool last = size == rest.size();
    const std::size_t sure = last ? size : size - kLookAhead;
    std::size_t done = 0;
    for (const auto& [begin, end] : expression_.find_all(rest.substr(0, size))) {
      if (end > sure) break;
      const std::string_view word = rest.substr(begin, end - begin);
      if (const auto found = words_.find(word); found != words_.end()) {
        ++found->second;
      } else {
        words_.emplace(word, 1);
      }
      done = end;
    }
    if (last) return;
    window = done > 0 ? window_ : 2 * window;  // a word longer than the window
    rest.remove_prefix(done);
  }
}

}  // namespace strata::text

#pragma once
// One training record after tokenisation. `trained[t]` says whether the prediction OF token t is
// trained on (t >= 1; trained[0] is ignored as nothing precedes it): the label -100 convention
// turned into a mask. An image has `pixels`, as many tokens as rows, all 0, and one thing to
// predict: its label.
#include <cstdint>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace strata::text {

struct Example {
  std::vector<TokenId> tokens;
  std::vector<std::uint8_t> trained;      // same length as tokens
  std::string source;                     // "file.jsonl:17", for messages
  std::vector<std::uint8_t> pixels = {};  // of an image, patch by patch
  std::int32_t label = 0;

  [[nodiscard]] bool is_image() const { return !pixels.empty(); }
  [[nodiscard]] std::size_t trained_tokens() const {
    if (is_image()) return 1;
    std::size_t n = 0;
    for (std::size_t t = 1; t < trained.size(); ++t) n += trained[t];
    return n;
  }
};

}  // namespace strata::text

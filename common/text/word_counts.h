#pragma once
// How often each word of a corpus occurs: what a byte-pair tokenizer is trained on. Words are those
// of GPT-2's expression on a whole document, as the finished tokenizer cuts it.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/result.h"
#include "text/bpe.h"
#include "text/regex.h"

namespace strata::text {

/// Memory grows with the distinct words, not with the text. The counts are sums: neither the order
/// of the documents nor the window changes them. One thread.
class WordCounts {
 public:
  using Map = std::unordered_map<std::string, std::uint64_t, StringHash, std::equal_to<>>;

  /// `window`: bytes of a document that are cut into words at once.
  [[nodiscard]] static Result<WordCounts> make(std::size_t window = std::size_t{1} << 20);

  /// One document in valid UTF-8.
  void add(std::string_view document);

  /// Words as the bytes of the text.
  [[nodiscard]] const Map& words() const { return words_; }
  /// Of all documents added.
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

 private:
  WordCounts(Regex expression, std::size_t window)
      : expression_(std::move(expression)), window_(window) {}

  Regex expression_;
  std::size_t window_;
  Map words_;
  std::uint64_t bytes_ = 0;
};

}  // namespace strata::text

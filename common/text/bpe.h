#pragma once
// The byte-pair-encoding model of a tokenizer: a word's characters are merged pair by pair, lowest
// rank first (Sennrich et al. 2016).
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"

namespace strata::text {

using Id = std::int32_t;

struct StringHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view s) const { return std::hash<std::string_view>{}(s); }
};
using Vocabulary = std::unordered_map<std::string, Id, StringHash, std::equal_to<>>;

struct BpeOptions {
  std::optional<std::string>
      unknown;                // token for characters outside the vocabulary; none: they are dropped
  bool fuse_unknown = false;  // neighbouring unknown characters become one token
  bool byte_fallback = false;  // unknown characters become <0xXX> tokens when all exist
  bool ignore_merges = false;  // a word that is a token is that token, whatever the merges say
};

/// Immutable; encode may be called from several threads.
class Bpe {
 public:
  /// `merges` in order of rank. kFormat when a merge names or makes a token that is not in the
  /// vocabulary.
  [[nodiscard]] static Result<Bpe> make(
      Vocabulary vocabulary, const std::vector<std::pair<std::string, std::string>>& merges,
      BpeOptions options, const std::string& where);
  /// Appends the ids of one word (valid UTF-8).
  void encode(std::string_view word, std::vector<Id>& out) const;
  [[nodiscard]] const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  struct Merge {
    std::uint32_t rank;
    Id made;
  };
  [[nodiscard]] const Merge* find(Id left, Id right) const {
    const auto found = merges_.find(key(left, right));
    return found == merges_.end() ? nullptr : &found->second;
  }
  static std::uint64_t key(Id left, Id right) {
    return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32) |
           static_cast<std::uint32_t>(right);
  }
  struct KeyHash {
    std::size_t operator()(std::uint64_t k) const {
      return (k ^ (k >> 29)) * 0x9e3779b97f4a7c15ULL >> 7;
    }
  };
  void start(std::string_view word, std::vector<Id>& symbols) const;
  void merge_short(std::vector<Id>& symbols) const;
  void merge_long(std::vector<Id>& symbols) const;

  Vocabulary vocabulary_;
  std::unordered_map<std::uint64_t, Merge, KeyHash> merges_;
  BpeOptions options_;
  std::optional<Id> unknown_;
  std::vector<Id> fallback_;     // id of <0xXX> by byte, -1 when there is none
  std::array<Id, 128> ascii_{};  // id of each one-character token, -1 when none
};

}  // namespace strata::text

#pragma once
// A tokenizer that fits the golden models' vocabulary of 67, one token a character.
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

namespace strata::support {

/// The tokenizer.json of a byte-level tokenizer: a to z are 0 to 25, A to Z 26 to 51, 0 to 9 52 to
/// 61, then space, line break, '.', ',' and '?'.
[[nodiscard]] inline nlohmann::json letters_tokenizer() {
  using nlohmann::json;
  json vocabulary = json::object();
  int id = 0;
  for (const auto& [first, last] : {std::pair{'a', 'z'}, std::pair{'A', 'Z'}, std::pair{'0', '9'}})
    for (char c = first; c <= last; ++c) vocabulary[std::string(1, c)] = id++;
  for (const char* token : {"\u0120", "\u010a", ".", ",", "?"}) vocabulary[token] = id++;
  const json bytes{{"type", "ByteLevel"},
                   {"add_prefix_space", false},
                   {"trim_offsets", true},
                   {"use_regex", true}};
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", json::array()},
          {"normalizer", nullptr},
          {"pre_tokenizer", bytes},
          {"post_processor", nullptr},
          {"decoder", bytes},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"vocab", vocabulary},
            {"merges", json::array()}}}};
}

}  // namespace strata::support

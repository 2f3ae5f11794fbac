#pragma once
// Byte-pair encoding learnt from word counts (Sennrich et al. 2016) on bytes (Radford et al. 2019):
// the pair of neighbouring tokens that occurs most often becomes a token, again and again.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "text/bpe.h"
#include "text/word_counts.h"

namespace strata::text {

struct BpeTrainOptions {
  std::size_t vocab_size = 30000;   // tokens at most: special ones, the 256 bytes, what is learnt
  std::uint64_t min_frequency = 2;  // a pair that occurs less often does not become a token
  std::vector<std::string> special_tokens;  // get the first ids in this order; twice counts once
  std::function<bool()> stopped = [] { return false; };  // asked before each merge
};

struct TrainedBpe {
  /// By id: special tokens, then bytes in the order of their stand-ins' code points, then what was
  /// learnt. Bytes are written by GPT-2's stand-ins, special tokens as they are.
  std::vector<std::string> tokens;
  /// In order of rank.
  std::vector<std::pair<std::string, std::string>> merges;

  [[nodiscard]] Vocabulary vocabulary() const;
};

/// kUsage: a vocabulary too small or too large, a special token that is empty or no UTF-8.
[[nodiscard]] Result<void> check_options(const BpeTrainOptions& options);

/// Tokens and merges equal those of the BpeTrainer of Hugging Face `tokenizers` (0.23) with
/// `initial_alphabet=ByteLevel.alphabet()`, while no pair occurs 2^31 times and the text has only
/// characters whose kind PCRE2 knows (Unicode 14 in version 10.42):
///   - of pairs that occur equally often the one with the smaller left id comes first, then the
///     smaller right id;
///   - in a run of one token ("aaa") all its overlapping pairs are counted;
///   - special tokens are not cut out of the text; a merge that makes one takes its id.
/// The same for the same counts and options, whatever their order. Time: for each merge the
/// length of the distinct words that hold its pair, and the logarithm of the distinct pairs.
/// kUsage as
/// check_options; kData: no words; kInterrupted.
[[nodiscard]] Result<TrainedBpe> train_bpe(const WordCounts& counts,
                                           const BpeTrainOptions& options);

/// Tokens of the whole corpus under `trained`.
[[nodiscard]] Result<std::uint64_t> count_tokens(const WordCounts& counts,
                                                 const TrainedBpe& trained);

}  // namespace strata::text

#include "text/bpe_trainer.h"

#include <algorithm>
#include <array>
#include <limits>
#include <unordered_set>

#include "text/text_stage.h"
#include "text/unicode.h"

namespace strata::text {

namespace {

constexpr std::size_t kBytes = 256;

using Pair = std::uint64_t;  // left id in the upper half: ordered as (left, right)

Pair pair_of(Id left, Id right) {
  return (static_cast<Pair>(static_cast<std::uint32_t>(left)) << 32) |
         static_cast<std::uint32_t>(right);
}
Id left_of(Pair pair) { return static_cast<Id>(pair >> 32); }
Id right_of(Pair pair) { return static_cast<Id>(pair & 0xffffffffu); }

struct PairHash {
  std::size_t operator()(Pair p) const { return (p ^ (p >> 29)) * 0x9e3779b97f4a7c15ULL >> 7; }
};

/// Numbers of words, ascending.
using Places = std::vector<std::uint32_t>;

/// A pair on its way to be merged, with the words it was found in. Each pair waits once: it first
/// occurs at the merge that makes the later of its two tokens, and then in all its words. (A token
/// is made by one pair only: no merge crosses its ends, so inside them every word was merged
/// alike.)
struct Candidate {
  std::int64_t count;  // when it was put; merges beside it lower it
  Pair pair;
  Places places;

  bool operator<(const Candidate& other) const {
    return count != other.count ? count < other.count : pair > other.pair;
  }
};

class Training {
 public:
  explicit Training(const BpeTrainOptions& options) : options_(options) {}

  void start(const WordCounts& counts) {
    for (const auto& token : options_.special_tokens) (void)id_of(token);
    const auto byte_ids = add_bytes();
    for (const auto& [word, count] : counts.words()) {
      words_.push_back({.begin = symbols_.size(), .size = word.size(), .count = count});
      for (const char c : word) symbols_.push_back(byte_ids[static_cast<unsigned char>(c)]);
    }
    for (std::uint32_t number = 0; number < words_.size(); ++number) {
      const Word& word = words_[number];
      for (std::size_t i = 0; i + 1 < word.size; ++i) {
        const Id* symbol = symbols_.data() + word.begin + i;
        add(pair_of(symbol[0], symbol[1]), number);
      }
    }
    queue_changed();
  }

  Result<void> run() {
    while (tokens_.size() < options_.vocab_size && !queue_.empty()) {
      Candidate top = take_best();
      if (const std::int64_t now = pairs_.at(top.pair); now != top.count) {
        top.count = now;
        put(std::move(top));
        continue;
      }
      if (top.count < least()) break;
      if (options_.stopped()) {
        return fail({.code = ErrorCode::kInterrupted,
                     .what = "stopped after " + std::to_string(merges_.size()) + " merges",
                     .remedy = "nothing was written; start again"});
      }
      const Id left = left_of(top.pair), right = right_of(top.pair);
      const Id made =
          id_of(tokens_[static_cast<std::size_t>(left)] + tokens_[static_cast<std::size_t>(right)]);
      merges_.push_back(top.pair);
      for (const std::uint32_t number : top.places) merge_in(number, left, right, made);
      queue_changed();
    }
    return {};
  }

  TrainedBpe finish() && {
    TrainedBpe out;
    for (const Pair pair : merges_) {
      out.merges.emplace_back(tokens_[static_cast<std::size_t>(left_of(pair))],
                              tokens_[static_cast<std::size_t>(right_of(pair))]);
    }
    out.tokens = std::move(tokens_);
    return out;
  }

 private:
  struct Word {
    std::size_t begin;  // of its tokens in symbols_
    std::size_t size;   // of them
    std::uint64_t count;
  };

  std::int64_t least() const {
    constexpr std::uint64_t kMost = std::numeric_limits<std::int64_t>::max();
    return static_cast<std::int64_t>(std::clamp<std::uint64_t>(options_.min_frequency, 1, kMost));
  }

  Id id_of(std::string token) {
    const auto [entry, fresh] = ids_.emplace(std::move(token), static_cast<Id>(tokens_.size()));
    if (fresh) tokens_.push_back(entry->first);
    return entry->second;
  }

  std::array<Id, kBytes> add_bytes() {
    std::array<std::size_t, kBytes> order{};
    for (std::size_t byte = 0; byte < kBytes; ++byte) order[byte] = byte;
    const auto& characters = byte_characters();
    std::ranges::sort(order, {},
                      [&](std::size_t byte) { return character_at(characters[byte], 0).code; });
    std::array<Id, kBytes> out{};
    for (const std::size_t byte : order) out[byte] = id_of(characters[byte]);
    return out;
  }

  void add(Pair pair, std::uint32_t number) {
    pairs_[pair] += static_cast<std::int64_t>(words_[number].count);
    Places& places = changed_[pair];
    if (places.empty() || places.back() != number) places.push_back(number);
  }
  void take(Pair pair, std::uint32_t number) {
    pairs_[pair] -= static_cast<std::int64_t>(words_[number].count);
  }

  // Merges from left to right. The merged pair's own count is left alone, those of the pairs beside
  // it change.
  void merge_in(std::uint32_t number, Id left, Id right, Id made) {
    Word& word = words_[number];
    Id* const symbols = symbols_.data() + word.begin;
    std::size_t kept = 0;
    for (std::size_t at = 0; at < word.size;) {
      if (symbols[at] != left || at + 1 == word.size || symbols[at + 1] != right) {
        symbols[kept++] = symbols[at++];
        continue;
      }
      if (kept > 0) {
        take(pair_of(symbols[kept - 1], left), number);
        add(pair_of(symbols[kept - 1], made), number);
      }
      at += 2;
      if (at < word.size) {
        take(pair_of(right, symbols[at]), number);
        add(pair_of(made, symbols[at]), number);
      }
      symbols[kept++] = made;
    }
    word.size = kept;
  }

  void queue_changed() {
    for (auto& [pair, places] : changed_) {
      const std::int64_t count = pairs_.at(pair);
      if (count > 0) put({count, pair, std::move(places)});
    }
    changed_.clear();
  }

  void put(Candidate candidate) {
    queue_.push_back(std::move(candidate));
    std::push_heap(queue_.begin(), queue_.end());
  }
  Candidate take_best() {
    std::pop_heap(queue_.begin(), queue_.end());
    Candidate out = std::move(queue_.back());
    queue_.pop_back();
    return out;
  }

  const BpeTrainOptions& options_;
  std::vector<std::string> tokens_;  // by id
  Vocabulary ids_;
  std::vector<Word> words_;
  std::vector<Id> symbols_;  // tokens of all words, one behind another
  std::unordered_map<Pair, std::int64_t, PairHash> pairs_;
  std::unordered_map<Pair, Places, PairHash> changed_;  // found since the last merge
  std::vector<Candidate> queue_;                        // a heap
  std::vector<Pair> merges_;
};

Error usage(std::string what, std::string rule) {
  return {.code = ErrorCode::kUsage, .what = std::move(what), .rule = std::move(rule)};
}

}  // namespace

Result<void> check_options(const BpeTrainOptions& options) {
  std::unordered_set<std::string> special;
  for (const auto& token : options.special_tokens) {
    if (token.empty() || first_invalid(token)) {
      return fail(usage("the special token \"" + printable(token, 60) + "\"",
                        "a special token is text in UTF-8 and not empty"));
    }
    special.insert(token);
  }
  // A special token may be the stand-in of a byte, so this is the most that is needed.
  const std::size_t least = kBytes + special.size();
  if (options.vocab_size < least) {
    return fail(usage("a vocabulary of " + std::to_string(options.vocab_size) + " tokens",
                      "it has room for 256 bytes and " + std::to_string(special.size()) +
                          " special tokens: at least " + std::to_string(least)));
  }
  constexpr std::size_t kMost = std::size_t{1} << 30;
  if (options.vocab_size > kMost) {
    return fail(usage("a vocabulary of " + std::to_string(options.vocab_size) + " tokens",
                      "at most " + std::to_string(kMost)));
  }
  return {};
}

Vocabulary TrainedBpe::vocabulary() const {
  Vocabulary out;
  for (std::size_t id = 0; id < tokens.size(); ++id) out.emplace(tokens[id], static_cast<Id>(id));
  return out;
}

Result<TrainedBpe> train_bpe(const WordCounts& counts, const BpeTrainOptions& options) {
  if (auto fine = check_options(options); !fine) return fail(std::move(fine).error());
  if (counts.words().empty()) {
    return fail({.code = ErrorCode::kData,
                 .what = "the text is empty",
                 .rule = "a tokenizer is trained on at least one word"});
  }
  Training training(options);
  training.start(counts);
  if (auto done = training.run(); !done) return fail(std::move(done).error());
  return std::move(training).finish();
}

Result<std::uint64_t> count_tokens(const WordCounts& counts, const TrainedBpe& trained) {
  const auto bpe = Bpe::make(trained.vocabulary(), trained.merges, {}, "the trained tokenizer");
  if (!bpe) return fail(bpe.error());
  const auto& characters = byte_characters();
  std::uint64_t out = 0;
  std::string mapped;
  std::vector<Id> ids;
  for (const auto& [word, count] : counts.words()) {
    mapped.clear();
    ids.clear();
    for (const char c : word) mapped += characters[static_cast<unsigned char>(c)];
    bpe->encode(mapped, ids);
    out += ids.size() * count;
  }
  return out;
}

}  // namespace strata::text

#include "text/bpe.h"

#include <cstdio>
#include <limits>
#include <queue>

#include "text/unicode.h"

namespace strata::text {
namespace {

constexpr std::size_t kShortWord = 48;  // up to here scanning all pairs beats a heap

std::string byte_token(unsigned char byte) {
  char text[8];
  std::snprintf(text, sizeof text, "<0x%02X>", byte);
  return text;
}

}  // namespace

Result<Bpe> Bpe::make(Vocabulary vocabulary,
                      const std::vector<std::pair<std::string, std::string>>& merges,
                      BpeOptions options, const std::string& where) {
  Bpe bpe;
  bpe.vocabulary_ = std::move(vocabulary);
  bpe.options_ = std::move(options);
  bpe.merges_.reserve(merges.size());
  const auto id_of = [&](std::string_view token) -> std::optional<Id> {
    const auto found = bpe.vocabulary_.find(token);
    return found == bpe.vocabulary_.end() ? std::nullopt : std::optional<Id>(found->second);
  };
  std::uint32_t rank = 0;
  for (const auto& [left, right] : merges) {
    const auto a = id_of(left);
    const auto b = id_of(right);
    const auto made = id_of(left + right);
    if (!a || !b || !made) {
      return fail({.code = ErrorCode::kFormat,
                   .what = "merge " + std::to_string(rank) + " (\"" + printable(left, 40) +
                           "\", \"" + printable(right, 40) +
                           "\") uses a token that is not in the vocabulary",
                   .where = where,
                   .rule = "both parts and their sum must be tokens"});
    }
    bpe.merges_[key(*a, *b)] = Merge{rank, *made};  // a repeated merge takes its last rank
    ++rank;
  }
  if (bpe.options_.unknown) {
    bpe.unknown_ = id_of(*bpe.options_.unknown);
    if (!bpe.unknown_) {
      return fail({.code = ErrorCode::kFormat,
                   .what = "unk_token \"" + printable(*bpe.options_.unknown, 40) +
                           "\" is not in the vocabulary",
                   .where = where});
    }
  }
  bpe.fallback_.assign(256, -1);
  if (bpe.options_.byte_fallback) {
    for (unsigned byte = 0; byte < 256; ++byte)
      bpe.fallback_[byte] = id_of(byte_token(static_cast<unsigned char>(byte))).value_or(-1);
  }
  for (unsigned c = 0; c < 128; ++c)
    bpe.ascii_[c] = id_of(std::string(1, static_cast<char>(c))).value_or(-1);
  return bpe;
}

// One symbol a character; the library's order of unknown tokens and byte fallbacks, oddities
// included.
void Bpe::start(std::string_view word, std::vector<Id>& symbols) const {
  bool pending_unknown = false;
  for (std::size_t at = 0; at < word.size();) {
    const auto lead = static_cast<unsigned char>(word[at]);
    const std::size_t bytes = lead < 0x80 ? 1 : character_at(word, at).bytes;
    const std::string_view character = word.substr(at, bytes);
    at += bytes;
    Id id = -1;
    if (bytes == 1) {
      id = ascii_[lead];
    } else if (const auto found = vocabulary_.find(character); found != vocabulary_.end()) {
      id = found->second;
    }
    if (id >= 0) {
      if (pending_unknown) symbols.push_back(*unknown_);
      pending_unknown = false;
      symbols.push_back(id);
      continue;
    }
    if (options_.byte_fallback) {
      bool all = true;
      for (const char c : character) all = all && fallback_[static_cast<unsigned char>(c)] >= 0;
      if (all) {
        for (const char c : character) symbols.push_back(fallback_[static_cast<unsigned char>(c)]);
        continue;
      }
    }
    if (!unknown_) continue;
    if (pending_unknown && !options_.fuse_unknown) symbols.push_back(*unknown_);
    pending_unknown = true;
  }
  if (pending_unknown) symbols.push_back(*unknown_);
}

void Bpe::merge_short(std::vector<Id>& symbols) const {
  for (;;) {
    std::uint32_t best = std::numeric_limits<std::uint32_t>::max();
    std::size_t where = 0;
    Id made = 0;
    for (std::size_t i = 0; i + 1 < symbols.size(); ++i) {
      const Merge* merge = find(symbols[i], symbols[i + 1]);
      if (merge == nullptr || merge->rank >= best) continue;
      best = merge->rank;
      where = i;
      made = merge->made;
    }
    if (best == std::numeric_limits<std::uint32_t>::max()) return;
    symbols[where] = made;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(where) + 1);
  }
}

// The same order (rank, then position) with a heap over a linked list: n log n for very long words.
void Bpe::merge_long(std::vector<Id>& symbols) const {
  struct Candidate {
    std::uint32_t rank;
    std::size_t at;
    Id made;
    bool operator>(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : at > other.at;
    }
  };
  constexpr std::size_t kEnd = std::numeric_limits<std::size_t>::max();
  std::vector<std::size_t> next(symbols.size()), previous(symbols.size());
  for (std::size_t i = 0; i < symbols.size(); ++i) {
    next[i] = i + 1 < symbols.size() ? i + 1 : kEnd;
    previous[i] = i > 0 ? i - 1 : kEnd;
  }
  std::vector<bool> gone(symbols.size(), false);
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto offer = [&](std::size_t at) {
    if (at == kEnd || next[at] == kEnd) return;
    if (const Merge* merge = find(symbols[at], symbols[next[at]]))
      queue.push({merge->rank, at, merge->made});
  };
  for (std::size_t i = 0; i < symbols.size(); ++i) offer(i);
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    if (gone[top.at] || next[top.at] == kEnd) continue;
    const std::size_t right = next[top.at];
    const Merge* merge = find(symbols[top.at], symbols[right]);
    if (merge == nullptr || merge->made != top.made) continue;  // the pair has changed since
    symbols[top.at] = top.made;
    gone[right] = true;
    next[top.at] = next[right];
    if (next[right] != kEnd) previous[next[right]] = top.at;
    offer(previous[top.at]);
    offer(top.at);
  }
  std::size_t kept = 0;
  for (std::size_t i = 0; i < symbols.size(); ++i) {
    if (!gone[i]) symbols[kept++] = symbols[i];
  }
  symbols.resize(kept);
}

void Bpe::encode(std::string_view word, std::vector<Id>& out) const {
  if (word.empty()) return;
  if (options_.ignore_merges) {
    if (const auto found = vocabulary_.find(word); found != vocabulary_.end()) {
      out.push_back(found->second);
      return;
    }
  }
  std::vector<Id> symbols;
  start(word, symbols);
  if (symbols.size() <= kShortWord) {
    merge_short(symbols);
  } else {
    merge_long(symbols);
  }
  out.insert(out.end(), symbols.begin(), symbols.end());
}

}  // namespace strata::text

#include "text/added_tokens.h"

#include <algorithm>

#include "text/unicode.h"

namespace strata::text {
namespace {

std::size_t last_character(std::string_view text, std::size_t end) {
  std::size_t at = end - 1;
  while (at > 0 && (static_cast<unsigned char>(text[at]) & 0xc0u) == 0x80u) --at;
  return at;
}

bool ends_with_word(std::string_view text) {
  return !text.empty() && is_word(character_at(text, last_character(text, text.size())).code);
}
bool starts_with_word(std::string_view text) {
  return !text.empty() && is_word(character_at(text, 0).code);
}

// Where the white space at the end of text[0, end) begins.
std::size_t space_before(std::string_view text, std::size_t end) {
  while (end > 0) {
    const std::size_t at = last_character(text, end);
    if (!is_white_space(character_at(text, at).code)) break;
    end = at;
  }
  return end;
}

std::size_t space_after(std::string_view text, std::size_t at) {
  while (at < text.size()) {
    const auto c = character_at(text, at);
    if (!is_white_space(c.code)) break;
    at += c.bytes;
  }
  return at;
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens,
                                   const std::vector<std::string>& patterns)
    : tokens_(std::move(tokens)) {
  for (std::size_t i = 0; i < tokens_.size(); ++i) {
    if (patterns[i].empty()) continue;
    std::size_t node = 0;
    for (const char c : patterns[i]) {
      const auto [at, inserted] =
          nodes_[node].next.try_emplace(static_cast<unsigned char>(c), nodes_.size());
      const std::size_t child = at->second;
      if (inserted) nodes_.emplace_back();
      node = child;
    }
    if (nodes_[node].token < 0) nodes_[node].token = static_cast<std::ptrdiff_t>(i);
  }
}

std::vector<Found> AddedTokenFinder::cut(std::string_view text) const {
  std::vector<Found> out;
  std::size_t from = 0;  // end of what has been put out
  for (std::size_t at = 0; !tokens_.empty() && at < text.size();) {
    std::size_t node = 0, end = at;
    std::ptrdiff_t best = -1;
    for (std::size_t i = at; i < text.size(); ++i) {
      const auto next = nodes_[node].next.find(static_cast<unsigned char>(text[i]));
      if (next == nodes_[node].next.end()) break;
      node = next->second;
      if (nodes_[node].token >= 0) {
        best = nodes_[node].token;
        end = i + 1;
      }
    }
    if (best < 0) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[static_cast<std::size_t>(best)];
    std::size_t begin = at, stop = end;
    at = end;
    if (token.single_word &&
        (ends_with_word(text.substr(0, begin)) || starts_with_word(text.substr(stop))))
      continue;
    if (token.lstrip) begin = std::max(space_before(text, begin), from);
    if (token.rstrip) stop = space_after(text, stop);
    if (from < begin) out.push_back({from, begin, -1});
    out.push_back({begin, stop, token.id});
    from = stop;
  }
  if (from < text.size()) out.push_back({from, text.size(), -1});
  return out;
}

}  // namespace strata::text

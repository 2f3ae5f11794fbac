#include "client/passes.h"

#include <algorithm>

namespace strata::client {

std::vector<PassRange> plan_passes(std::span<const text::Example> examples,
                                   std::span<const std::size_t> records, std::size_t tokens_max,
                                   std::size_t records_max) {
  std::size_t left = 0;  // tokens not yet in a pass
  for (const std::size_t i : records) left += examples[i].tokens.size();
  std::vector<PassRange> out;
  for (std::size_t at = 0; at < records.size();) {
    const std::size_t records_left = records.size() - at;
    const std::size_t passes = std::max((left + tokens_max - 1) / tokens_max,
                                        (records_left + records_max - 1) / records_max);
    const std::size_t share = (left + passes - 1) / std::max<std::size_t>(passes, 1);
    std::size_t tokens = 0;
    std::size_t count = 0;
    while (count < std::min(records_left, records_max)) {
      const std::size_t own = examples[records[at + count]].tokens.size();
      // One more record when that ends nearer to an equal share than stopping here.
      const bool nearer = tokens + own <= share || tokens + own - share < share - tokens;
      if (count > 0 && (tokens + own > tokens_max || !nearer)) break;
      tokens += own;
      ++count;
    }
    out.push_back({at, count});
    at += count;
    left -= tokens;
  }
  return out;
}

}  // namespace strata::client

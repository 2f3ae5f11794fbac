#pragma once
// How an optimizer step's records are cut into passes through the model: neighbours together, as
// many as the allowed tokens (and, when each record's own gradient is wanted, records) let, and
// passes of nearly the same size, so that none is too small to compute well.
#include <cstddef>
#include <span>
#include <vector>

#include "text/example.h"

namespace strata::client {

/// Records [first, first + count) of the step.
struct PassRange {
  std::size_t first = 0;
  std::size_t count = 0;
};

/// Covers all `records` (indices into `examples`) in order. A record longer than `tokens_max` has a
/// pass of its own. records_max >= 1.
[[nodiscard]] std::vector<PassRange> plan_passes(std::span<const text::Example> examples,
                                                 std::span<const std::size_t> records,
                                                 std::size_t tokens_max, std::size_t records_max);

}  // namespace strata::client

#pragma once
// The squared norm of a record's gradient, which clipping is about.
#include <cstddef>

namespace strata::client {

/// In double and in a fixed order: the same bits on every instruction set.
[[nodiscard]] double square_sum(const float* values, std::size_t n);

}  // namespace strata::client

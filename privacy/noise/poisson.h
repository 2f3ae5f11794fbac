#pragma once
// Which units a step takes when each is in or out by itself (Poisson sampling): what amplification
// by sampling is proved for. Batches of a fixed size or in shuffled order are not.
#include <cstddef>
#include <vector>

#include "base/result.h"
#include "privacy/noise/noise_source.h"

namespace strata::noise {

/// Each of 0..n-1 with probability q, in ascending order; often of another size than q n, and empty
/// now and then: such a step releases its noise all the same. Compares 63 random bits with
/// floor(q 2^63), so the probability is q rounded down. One word for each of the n, taken or not.
/// kConfig unless 0 <= q <= 1.
[[nodiscard]] Result<std::vector<std::size_t>> select(double q, std::size_t n, NoiseSource& source);

}  // namespace strata::noise

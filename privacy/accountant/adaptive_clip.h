#pragma once
// Clipping to an adaptive norm (Andrew et al. 2021) releases two sums a step: the gradients, and
// how many records were below the norm. Both are billed as one Gaussian.
#include "base/result.h"

namespace strata::privacy {

/// The multiplier for the gradients so that both together cost `charged` (z): the bits, centred to
/// -1/2 or +1/2, move their sum by 1/2 and get noise of deviation `bit_noise`, so
///   z_gradients = (z^-2 - (2 bit_noise)^-2)^(-1/2).
/// kConfig unless 0 < charged < 2 bit_noise < infinity.
[[nodiscard]] Result<double> adaptive_clip_split(double charged, double bit_noise);

}  // namespace strata::privacy

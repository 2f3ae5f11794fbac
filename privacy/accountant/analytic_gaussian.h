#pragma once
// The Gaussian release on the full batch, exactly (Balle and Wang 2018, theorem 8):
//   delta(eps) = F(mu/2 - eps/mu) - e^eps F(-mu/2 - eps/mu)
// where F is the normal distribution function and mu the distance of the means in deviations. The
// textbook's sqrt(2 ln(1.25/delta))/eps is no bound above epsilon 1 and is not here.
#include "privacy/accountant/event.h"

namespace strata::privacy {

/// P(N(0,1) > x), to relative precision in the upper tail.
[[nodiscard]] double normal_tail(double x);

/// mu > 0.
[[nodiscard]] Delta gaussian_delta(double mu, Epsilon epsilon);
/// The smallest epsilon for `delta`, rounded up in the last bits; 0 where delta(0) <= delta.
[[nodiscard]] Epsilon gaussian_epsilon(double mu, Delta delta);

}  // namespace strata::privacy

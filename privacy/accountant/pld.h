#pragma once
// The accountant by privacy loss distributions: each release's loss as masses on a grid
// (loss_masses.h), convolved by FFT (Koskela et al. 2020; connect-the-dots masses as Doroshenko et
// al. 2022). Every approximation goes up: masses off the grid, losses outside the window, and a
// bound on the FFT's own rounding are added to delta.
// The FFT works on exponentially tilted masses p(l) e^{s l} / M(s), so that its rounding is small
// beside the delta that is asked for and not beside 1.
// Threads: pure functions.
#include <cstddef>

#include "privacy/accountant/event.h"

namespace strata::privacy {

/// Below this the rounding of double precision is no longer surely covered.
inline constexpr double kSmallestPldDelta = 1e-11;

struct PldOptions {
  /// Epsilon may be too large by about this much. The mesh follows from it: T h^2 <= tolerance / 2,
  /// and less where all losses together spread less than that, h <= 1e-3.
  double tolerance = 1e-3;
  /// The mesh itself, instead; 0: by the tolerance.
  double mesh = 0.0;
};

struct PldBound {
  Epsilon epsilon;  // infinite where no finite one holds
  Delta delta;
  double mesh = 0.0;       // 0: a closed formula, no grid
  std::size_t points = 0;  // of the larger FFT
};

/// The smallest epsilon certified for `delta`, rounded up. kConfig for a delta outside (0, 1) or
/// below 1e-11.
[[nodiscard]] Result<PldBound> pld_epsilon(const Composition& composition, Delta delta,
                                           const PldOptions& options = {});
/// The smallest delta certified for `epsilon`, rounded up; never below 1e-14 with a grid.
[[nodiscard]] Result<PldBound> pld_delta(const Composition& composition, Epsilon epsilon,
                                         const PldOptions& options = {});

}  // namespace strata::privacy

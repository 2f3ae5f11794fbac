#pragma once
// The least noise that keeps a promise: the inverse of an accountant in the noise multiplier.
#include "privacy/accountant/accountant.h"

namespace strata::privacy {

struct NoiseTarget {
  Epsilon epsilon;  // not to be exceeded; finite, above 0
  Delta delta;
  double rate = 1.0;      // q
  double releases = 1.0;  // noisy sums in all
};

struct Calibration {
  double noise_multiplier = 0.0;  // rounded up, four digits (and at least four decimals)
  Statement at;                   // computed again at that multiplier: epsilon <= the target
};

/// Brackets z by doubling, narrows the bracket well below the rounding, takes the upper end and
/// rounds it up. 0 where nothing is released. kConfig for a target the accountant refuses or that
/// no multiplier up to 1e6 keeps.
[[nodiscard]] Result<Calibration> calibrate(const Accountant& accountant, Adjacency adjacency,
                                            const NoiseTarget& target);

}  // namespace strata::privacy

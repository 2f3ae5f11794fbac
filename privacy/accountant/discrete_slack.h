#pragma once
// What changes in the bill when the noise is a discrete Gaussian on an integer grid (Canonne,
// Kamath, Steinke 2020), as the mechanism adds it, and not the continuous one of the formulas.
#include "privacy/accountant/event.h"

namespace strata::privacy {

/// The grid on which sums are released: step C 2^-bits, deviation ceil(z 2^bits) steps, `dimension`
/// coordinates.
struct NoiseGrid {
  int bits = 20;
  double noise_multiplier = 1.0;
  double dimension = 1.0;

  /// The deviation in steps, a whole number, rounded up.
  [[nodiscard]] double deviation() const;
};

/// What is added to the delta of a curve for the continuous Gaussian (pld.h):
///   (1 + e^eps) releases sqrt(2 dimension) / (48 deviation^2)
/// from the total variation between the discrete Gaussian and a continuous one rounded to the grid,
/// which is post-processing of the continuous one.
[[nodiscard]] Delta discrete_slack(const NoiseGrid& grid, double releases, Epsilon epsilon);

/// At whole orders nothing is added: for an integer shift v the discrete Gaussian has E[e^{k <x,v>
/// / s^2}] = e^{k^2 |v|^2 / 2 s^2} exactly, hence the Poisson-sampled mechanism has the divergence
/// of the continuous one at z = s / |v|. `shift_squared` = |v|^2 > 0; order a whole number >= 2.
[[nodiscard]] double discrete_gaussian_rdp(double deviation, double shift_squared, double rate,
                                           int order);

}  // namespace strata::privacy

#pragma once
// One release's privacy loss ln(P/Q) as masses on the grid {i h}. The true loss of P's mass between
// two grid points is split between them so that both its P- and its Q-mass are kept ("connect the
// dots", Doroshenko et al. 2022): the hockey-stick curve of the masses agrees with the true one at
// every grid point and lies above it, as a chord, between them. So the direction of every error is
// up. Bucket rounding errs by T h/2 after T releases, this by about T h^2.
#include <cstdint>
#include <vector>

namespace strata::privacy {

/// kRemove: the record is in P and missing in Q; kAdd: the other way round. Epsilon is the larger.
enum class Direction { kRemove, kAdd };

struct LossMasses {
  double mesh = 0.0;         // h
  std::int64_t first = 0;    // mass[k] is that of the loss (first + k) h
  std::vector<double> mass;  // sums to 1 - infinity
  /// Mass of what Q never shows, and of what lies beyond 10 deviations or a loss of 600.
  double infinity = 0.0;

  [[nodiscard]] double lowest() const { return mesh * static_cast<double>(first); }
  [[nodiscard]] double highest() const {
    return lowest() + mesh * (static_cast<double>(mass.size()) - 1.0);
  }
};

/// One Poisson-sampled Gaussian: (1-q) N(0) + q N(1) against N(0), deviation z each.
/// 0 < q <= 1, z > 0, mesh > 0.
[[nodiscard]] LossMasses sampled_gaussian_losses(double q, double z, Direction direction,
                                                 double mesh);
/// The same with the record swapped: (1-q) N(0) + q N(1) against (1-q) N(0) + q N(-1). Both
/// directions are one by symmetry.
[[nodiscard]] LossMasses swapped_gaussian_losses(double q, double z, double mesh);
/// Laplace of scale b >= 1/600 against itself moved by 1; both directions are one.
[[nodiscard]] LossMasses laplace_losses(double scale, double mesh);

}  // namespace strata::privacy

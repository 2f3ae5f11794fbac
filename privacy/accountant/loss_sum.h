#pragma once
// The sum of many independent privacy losses: the masses of loss_masses.h convolved. Used by
// pld.cpp only.
#include <cstddef>
#include <cstdint>
#include <vector>

#include "privacy/accountant/event.h"
#include "privacy/accountant/loss_masses.h"

namespace strata::privacy {

/// `count` releases with the same losses.
struct LossPart {
  LossMasses losses;
  double count = 1.0;
};

/// ln E[e^{t L}] of the finite losses of all parts together.
[[nodiscard]] double log_moment(const std::vector<LossPart>& parts, double t);

/// The tilt at which the Chernoff bound min_t (log_moment(t) + target) / t is smallest (the order
/// of the best Renyi bound, less one); `target` = ln(1/delta).
[[nodiscard]] double tilt_for_delta(const std::vector<LossPart>& parts, double target);
/// The same for min_t log_moment(t) - t epsilon.
[[nodiscard]] double tilt_for_epsilon(const std::vector<LossPart>& parts, double epsilon);

/// Where the tilted sum lies but for 2e-16 of its mass on either side (Chernoff bounds).
struct Window {
  double low = 0.0;
  double high = 0.0;
};
[[nodiscard]] Window window_of(const std::vector<LossPart>& parts, double tilt);

/// The composed distribution on a window of the grid, and the hockey-stick curve above it.
class LossSum {
 public:
  /// All parts have the same mesh.
  LossSum(const std::vector<LossPart>& parts, double tilt, const Window& window);

  /// An upper bound of delta(eps), for eps >= lowest() only.
  [[nodiscard]] double delta(double epsilon) const;
  /// The smallest eps with delta(eps) <= delta. Infinity when there is none; what is below lowest()
  /// only for tilt 0, where all mass counts.
  [[nodiscard]] double epsilon(double delta) const;
  [[nodiscard]] double lowest() const { return mesh_ * static_cast<double>(first_); }
  [[nodiscard]] std::size_t points() const { return mass_.size(); }

 private:
  struct Walk;

  double mesh_ = 0.0;
  std::int64_t first_ = 0;
  std::vector<double> mass_;   // of P, untilted
  std::vector<double> slack_;  // bound of the FFT's rounding in delta at each grid point
  double constant_ = 0.0;      // infinite losses, and those above the window
};

}  // namespace strata::privacy

#include "privacy/accountant/discrete_slack.h"

#include <cmath>

#include "privacy/accountant/rdp.h"

namespace strata::privacy {

double NoiseGrid::deviation() const { return std::ceil(std::ldexp(noise_multiplier, bits)); }

Delta discrete_slack(const NoiseGrid& grid, double releases, Epsilon epsilon) {
  const double s = grid.deviation();
  return {(1.0 + std::exp(epsilon.value)) * releases * std::sqrt(2.0 * grid.dimension) /
          (48.0 * s * s)};
}

double discrete_gaussian_rdp(double deviation, double shift_squared, double rate, int order) {
  return sampled_gaussian_rdp(rate, deviation / std::sqrt(shift_squared), order);
}

}  // namespace strata::privacy

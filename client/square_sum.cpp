#include "client/square_sum.h"

#include "base/simd.h"

namespace strata::client {
namespace {

STRATA_SIMD double lanes_sum(const float* values, std::size_t n) {
  constexpr std::size_t kLanes = 16;
  double lanes[kLanes] = {};
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const double value = values[i + lane];
      lanes[lane] += value * value;
    }
  }
  double sum = 0.0;
  for (; i < n; ++i) sum += static_cast<double>(values[i]) * values[i];
  for (const double lane : lanes) sum += lane;
  return sum;
}

}  // namespace

double square_sum(const float* values, std::size_t n) { return lanes_sum(values, n); }

}  // namespace strata::client

#include <algorithm>
#include <cmath>

#include "base/simd.h"
#include "client/optimizer/moments.h"
#include "client/optimizer/optimizer.h"

namespace strata::client {
namespace {

// Eight running sums: a fixed order that vector units can follow.
STRATA_SIMD double square_sum(const float* values, std::size_t n) {
  constexpr std::size_t kLanes = 8;
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

double clip_global_norm(std::span<const adapter::ParamRef> params, double max_norm,
                        tensor::Team& team) {
  const auto pieces = pieces_of(params);
  std::vector<double> sums(pieces.size());
  team.for_range(pieces.size(), 1, [&](std::size_t first, std::size_t last, int) {
    for (std::size_t k = first; k < last; ++k) {
      const auto [i, from, to] = pieces[k];
      sums[k] = square_sum(params[i].grad.data() + from, to - from);
    }
  });
  double total = 0.0;
  for (const double sum : sums) total += sum;
  const double norm = std::sqrt(total);
  const double factor = max_norm / (norm + 1e-6);
  // A norm that is not finite is the caller's to report: scaling by 0 or NaN would only hide where
  // it came from.
  if (max_norm <= 0.0 || !std::isfinite(norm) || factor >= 1.0) return norm;
  team.for_range(pieces.size(), 1, [&](std::size_t first, std::size_t last, int) {
    for (std::size_t k = first; k < last; ++k) {
      const auto [i, from, to] = pieces[k];
      for (float& value : params[i].grad.subspan(from, to - from))
        value *= static_cast<float>(factor);
    }
  });
  return norm;
}

}  // namespace strata::client

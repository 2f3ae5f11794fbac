#include "privacy/noise/poisson.h"

#include <cmath>
#include <string>

namespace strata::noise {

Result<std::vector<std::size_t>> select(double q, std::size_t n, NoiseSource& source) {
  if (!(q >= 0.0 && q <= 1.0)) {
    return fail({.code = ErrorCode::kConfig,
                 .what = "the sampling probability is " + std::to_string(q),
                 .rule = "it is between 0 and 1"});
  }
  // A power of two scales without rounding; the conversion rounds down.
  const auto threshold = static_cast<std::uint64_t>(std::ldexp(q, 63));
  std::vector<std::size_t> out;
  for (std::size_t i = 0; i < n; ++i) {
    if (source.next() >> 1 < threshold) out.push_back(i);
  }
  return out;
}

}  // namespace strata::noise

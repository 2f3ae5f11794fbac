#include "privacy/noise/grid.h"

#include <cmath>
#include <string>

#include "privacy/noise/discrete_gaussian.h"

namespace strata::noise {

Result<Grid> Grid::make(double clip, double multiplier, int bits) {
  const auto refused = [](std::string what, std::string rule) {
    return fail({.code = ErrorCode::kConfig, .what = std::move(what), .rule = std::move(rule)});
  };
  if (!(clip > 0.0) || !std::isfinite(clip))
    return refused("the clip norm is " + std::to_string(clip), "it is finite and above 0");
  if (!(multiplier > 0.0) || !std::isfinite(multiplier))
    return refused("the noise multiplier is " + std::to_string(multiplier),
                   "it is finite and above 0");
  if (bits < kBitsMin || bits > kBitsMax)
    return refused("the grid has " + std::to_string(bits) + " bits", "it has 16 to 24");
  // A power of two scales without rounding.
  const double steps = std::ceil(std::ldexp(multiplier, bits));
  if (steps > static_cast<double>(DiscreteGaussian::kSigmaMax)) {
    return refused("noise of " + std::to_string(multiplier) + " times the clip norm is too much " +
                       "for a grid of " + std::to_string(bits) + " bits",
                   "multiplier times 2^bits is at most 2^26");
  }
  Grid out;
  out.clip_ = clip;
  out.step_ = std::ldexp(clip, -bits);
  if (!std::isnormal(out.step_) || !std::isnormal(1.0 / out.step_))
    return refused("the clip norm is " + std::to_string(clip), "a grid step is a normal number");
  out.bits_ = bits;
  out.sigma_ = static_cast<std::uint64_t>(steps);
  return out;
}

}  // namespace strata::noise

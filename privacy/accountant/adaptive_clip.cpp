#include "privacy/accountant/adaptive_clip.h"

#include <fmt/format.h>

#include <cmath>

namespace strata::privacy {

Result<double> adaptive_clip_split(double charged, double bit_noise) {
  const double bits = 2.0 * bit_noise;
  if (!(charged > 0.0 && charged < bits && std::isfinite(bits))) {
    return fail({.code = ErrorCode::kConfig,
                 .what = fmt::format("the noise of the clip bits is {} at a noise multiplier of {}",
                                     bit_noise, charged),
                 .rule = "twice the bits' noise is above the noise multiplier, and that above 0",
                 .remedy = "give the bits more noise, a twentieth of the batch size say"});
  }
  const double ratio = charged / bits;
  return charged / std::sqrt((1.0 - ratio) * (1.0 + ratio));
}

}  // namespace strata::privacy

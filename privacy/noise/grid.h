#pragma once
// The grid on which a private sum is formed: multiples of g = C 2^-bits, where C bounds the norm of
// one unit. On it the sum is exact, the bound of a unit is an integer that can be checked, and the
// noise is an integer too.
#include <cstdint>

#include "base/result.h"

namespace strata::noise {

class Grid {
 public:
  static constexpr int kBitsMin = 16;
  static constexpr int kBitsMax = 24;

  /// `clip` > 0 is C; `multiplier` > 0 is z, the noise's deviation in units of C. kConfig when they
  /// are not, when `bits` is out of bounds, or when the noise would be outside
  /// [1, DiscreteGaussian::kSigmaMax] grid steps.
  [[nodiscard]] static Result<Grid> make(double clip, double multiplier, int bits = 20);

  [[nodiscard]] double clip() const { return clip_; }
  [[nodiscard]] int bits() const { return bits_; }
  [[nodiscard]] double step() const { return step_; }  // g
  /// Parameter of the noise in grid steps, ceil(z 2^bits): rounds the noise up.
  [[nodiscard]] std::uint64_t sigma() const { return sigma_; }
  /// C in grid steps.
  [[nodiscard]] std::int64_t bound() const { return std::int64_t{1} << bits_; }

 private:
  Grid() = default;

  double clip_ = 0.0;
  double step_ = 0.0;
  int bits_ = 0;
  std::uint64_t sigma_ = 0;
};

}  // namespace strata::noise

#pragma once
// Integers X with P(X = x) proportional to exp(-x^2 / (2 sigma^2)), drawn exactly: no rounding
// stands between the random words and the sample (Canonne, Kamath & Steinke 2020, "The Discrete
// Gaussian for Differential Privacy", algorithms 1 to 3). The low bits of a sum with such noise say
// no more than the mechanism allows, which cannot be said of rounded normal samples (Mironov 2012).
#include <cstdint>
#include <span>

#include "base/result.h"
#include "privacy/noise/noise_source.h"

namespace strata::noise {

class DiscreteGaussian {
 public:
  /// The largest parameter: keeps every product of the sampler within 128 bits.
  static constexpr std::uint64_t kSigmaMax = std::uint64_t{1} << 26;

  /// `sigma` is the parameter, which is the standard deviation but for 1.1e-7 of it at 1, and
  /// less above. kConfig unless 1 <= sigma <= kSigmaMax.
  [[nodiscard]] static Result<DiscreteGaussian> make(std::uint64_t sigma);

  [[nodiscard]] std::uint64_t sigma() const { return sigma_; }
  [[nodiscard]] std::int64_t sample(NoiseSource& source) const;
  void fill(std::span<std::int64_t> out, NoiseSource& source) const;

 private:
  explicit DiscreteGaussian(std::uint64_t sigma);

  std::uint64_t sigma_;
  std::uint64_t uneven_;  // 2^63 mod sigma: words that would favour some residues
};

}  // namespace strata::noise

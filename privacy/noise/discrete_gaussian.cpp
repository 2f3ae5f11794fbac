#include "privacy/noise/discrete_gaussian.h"

#include <string>

#include "privacy/noise/exact.h"

namespace strata::noise {
namespace {

constexpr std::uint64_t kHalf = std::uint64_t{1} << 63;

}  // namespace

DiscreteGaussian::DiscreteGaussian(std::uint64_t sigma) : sigma_(sigma), uneven_(kHalf % sigma) {}

Result<DiscreteGaussian> DiscreteGaussian::make(std::uint64_t sigma) {
  if (sigma < 1 || sigma > kSigmaMax) {
    return fail({.code = ErrorCode::kConfig,
                 .what = "the noise has a deviation of " + std::to_string(sigma) + " grid steps",
                 .rule = "it is between 1 and 2^26",
                 .remedy = "change the noise multiplier or the bits of the grid"});
  }
  return DiscreteGaussian(sigma);
}

// Y = +-(u + sigma v), u uniform below sigma and kept with exp(-u / sigma), v with P(v >= i) =
// exp(-i), is discrete Laplace of scale sigma; kept with exp(-(|Y| - sigma)^2 / (2 sigma^2)) it is
// discrete Gaussian. Departs: the paper takes the scale floor(sigma) + 1, which is as good for an
// integer sigma but squares the denominator.
std::int64_t DiscreteGaussian::sample(NoiseSource& source) const {
  while (true) {
    // The top bit is the sign; the others times sigma give u (Lemire 2019, without bias).
    const std::uint64_t word = source.next();
    const Wide product = static_cast<Wide>(word & (kHalf - 1)) * sigma_;
    if ((static_cast<std::uint64_t>(product) & (kHalf - 1)) < uneven_) continue;
    const auto u = static_cast<std::uint64_t>(product >> 63);
    if (!bernoulli_exp(u, sigma_, source)) continue;
    std::uint64_t v = 0;
    while (bernoulli_exp_one(source)) ++v;
    const std::uint64_t size = u + sigma_ * v;
    const bool negative = word >= kHalf;
    if (negative && size == 0) continue;  // zero would come by both signs
    const std::uint64_t off = size > sigma_ ? size - sigma_ : sigma_ - size;
    const std::uint64_t d = 2 * sigma_ * sigma_;
    Wide n = static_cast<Wide>(off) * off;
    bool kept = true;
    for (; kept && n > d; n -= d) kept = bernoulli_exp_one(source);
    if (!kept || !bernoulli_exp(static_cast<std::uint64_t>(n), d, source)) continue;
    return negative ? -static_cast<std::int64_t>(size) : static_cast<std::int64_t>(size);
  }
}

void DiscreteGaussian::fill(std::span<std::int64_t> out, NoiseSource& source) const {
  for (auto& x : out) x = sample(source);
}

}  // namespace strata::noise

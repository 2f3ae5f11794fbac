#include "privacy/noise/noisy_sum.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>

#include "base/simd.h"
#include "privacy/noise/exact.h"

namespace strata::noise {
namespace {

// Values of a task of the noise: its random words must not depend on how many threads there are.
constexpr std::size_t kPiece = 4096;
// Squares of at most 2^24 + 1 that a 64-bit sum holds for sure.
constexpr std::size_t kRun = std::size_t{1} << 14;
static_assert(kRun * ((std::uint64_t{1} << Grid::kBitsMax) + 1) <
              ~std::uint64_t{0} / ((std::uint64_t{1} << Grid::kBitsMax) + 1));
// Values that are worth waking a thread for.
constexpr std::size_t kGrain = std::size_t{1} << 16;

// sum += sign * m and the sum of m^2, where m = trunc(x * scale). Out of bounds or NaN gives
// `over`, one more than the bound, whose square alone breaks it: both comparisons are false for
// NaN.
STRATA_SIMD std::uint64_t add_run(std::int64_t* sum, const float* x, std::size_t n, double scale,
                                  double over, std::int64_t sign) {
  std::uint64_t squares = 0;
  for (std::size_t i = 0; i < n; ++i) {
    double v = static_cast<double>(x[i]) * scale;
    v = v < over ? v : over;
    v = v > -over ? v : -over;
    const std::int64_t m = static_cast<std::int32_t>(v);
    sum[i] += sign * m;
    squares += static_cast<std::uint64_t>(m * m);
  }
  return squares;
}

Wide add_all(std::int64_t* sum, std::span<const float> x, const Grid& grid, std::int64_t sign) {
  // Rounded, so a value within 2^-52 of a grid line may land on it: the squares are of the integers
  // as they are added, whatever they came from.
  const double scale = std::ldexp(1.0, grid.bits()) / grid.clip();
  const auto over = static_cast<double>(grid.bound() + 1);
  Wide squares = 0;
  for (std::size_t at = 0; at < x.size(); at += kRun) {
    squares += add_run(sum + at, x.data() + at, std::min(kRun, x.size() - at), scale, over, sign);
  }
  return squares;
}

DiscreteGaussian noise_of(const Grid& grid) {
  auto noise = DiscreteGaussian::make(grid.sigma());
  check(noise.has_value(), "a grid has noise that can be drawn");
  return *noise;
}

}  // namespace

NoisySum::NoisySum(const Grid& grid, std::size_t size)
    : grid_(grid), noise_(noise_of(grid)), sum_(size) {
  check(size < kPiece * (std::uint64_t{1} << 32), "the pieces of a vector can be numbered");
}

NoisySum::~NoisySum() { OPENSSL_cleanse(sum_.data(), sum_.size() * sizeof(std::int64_t)); }

void NoisySum::add(std::span<const std::span<const float>> unit, tensor::Team& team) {
  const auto everywhere = [&](std::int64_t sign) {
    std::vector<Wide> squares(static_cast<std::size_t>(team.size()));
    std::int64_t* to = sum_.data();
    for (const auto piece : unit) {
      team.for_range(piece.size(), kGrain, [&](std::size_t first, std::size_t last, int member) {
        squares[static_cast<std::size_t>(member)] +=
            add_all(to + first, piece.subspan(first, last - first), grid_, sign);
      });
      to += piece.size();
    }
    Wide all = 0;
    for (const Wide part : squares) all += part;
    return all;
  };
  std::size_t total = 0;
  for (const auto piece : unit) total += piece.size();
  check(total == sum_.size(), "a unit has as many numbers as the sum");
  if (everywhere(1) <= static_cast<Wide>(grid_.bound()) * static_cast<Wide>(grid_.bound())) return;
  (void)everywhere(-1);  // the very same integers are taken away again
  ++refused_;
}

void NoisySum::add(std::span<const float> unit, tensor::Team& team) {
  const std::array<std::span<const float>, 1> pieces{unit};
  add(pieces, team);
}

void NoisySum::merge(NoisySum& other) {
  check(other.size() == size() && other.grid_.clip() == grid_.clip() &&
            other.grid_.bits() == grid_.bits() && other.grid_.sigma() == grid_.sigma(),
        "sums of one grid and size are merged");
  for (std::size_t i = 0; i < sum_.size(); ++i) sum_[i] += std::exchange(other.sum_[i], 0);
  refused_ += std::exchange(other.refused_, 0);
}

Result<void> NoisySum::release(NoiseSupply& supply, double divisor, std::span<float> out,
                               tensor::Team& team) {
  check(out.size() == sum_.size(), "a release has as many numbers as the sum");
  check(supply.threads() >= team.size(), "every thread draws from a source of its own");
  const double factor = grid_.step() / divisor;
  if (!(divisor > 0.0) || !std::isfinite(divisor) || !(factor > 0.0) || !std::isfinite(factor)) {
    return fail({.code = ErrorCode::kConfig,
                 .what = "the divisor of the noisy sum is " + std::to_string(divisor),
                 .rule = "it is finite and above 0"});
  }
  supply.begin();
  const std::size_t pieces = (sum_.size() + kPiece - 1) / kPiece;
  team.for_tasks(pieces, [&](std::size_t piece, int member) {
    NoiseSource& source = supply.piece(member, static_cast<std::uint32_t>(piece));
    const std::size_t first = piece * kPiece;
    const std::size_t last = std::min(first + kPiece, sum_.size());
    for (std::size_t i = first; i < last; ++i) {
      const std::int64_t noisy = std::exchange(sum_[i], 0) + noise_.sample(source);
      out[i] = static_cast<float>(static_cast<double>(noisy) * factor);
    }
  });
  return {};
}

}  // namespace strata::noise

#pragma once
// Statistics of samples, and the bounds that a right sampler breaks with a probability below 1e-6.
// The draws are seeded, so a test that passes once passes always.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include "privacy/noise/discrete_gaussian.h"

namespace strata::noise {

inline constexpr double kFar = 4.9;  // a normal variable is farther out with probability 1e-6

inline std::vector<std::int64_t> draw(std::uint64_t sigma, std::size_t n, std::uint64_t seed) {
  std::vector<std::int64_t> out(n);
  const auto source = SeededTestNoise::make(seed).value();
  DiscreteGaussian::make(sigma).value().fill(out, *source);
  return out;
}

/// The value that chi-square of `df` degrees of freedom exceeds with probability 1e-6 (Wilson &
/// Hilferty 1931).
inline double chi_square_bound(double df) {
  const double t = 2.0 / (9.0 * df);
  return df * std::pow(1.0 - t + 4.7534 * std::sqrt(t), 3.0);
}

inline double chi_square(std::span<const double> counts, std::span<const double> expected) {
  double out = 0.0;
  for (std::size_t i = 0; i < counts.size(); ++i)
    out += (counts[i] - expected[i]) * (counts[i] - expected[i]) / expected[i];
  return out;
}

/// Cells -edge..edge, what lies beyond in the outermost, against the closed form of the mass.
inline double chi_square_of_mass(std::span<const std::int64_t> x, double sigma, int edge) {
  const auto cells = 2 * static_cast<std::size_t>(edge) + 1;
  std::vector<double> counts(cells), expected(cells);
  for (const auto v : x)
    ++counts[static_cast<std::size_t>(std::clamp<std::int64_t>(v, -edge, edge) + edge)];
  for (int v = -30 * static_cast<int>(sigma); v <= 30 * static_cast<int>(sigma); ++v)
    expected[static_cast<std::size_t>(std::clamp<std::int64_t>(v, -edge, edge) + edge)] +=
        std::exp(-v * v / (2.0 * sigma * sigma));
  const double all = std::accumulate(expected.begin(), expected.end(), 0.0);
  for (auto& e : expected) e *= static_cast<double>(x.size()) / all;
  return chi_square(counts, expected);
}

/// sqrt(n) times the largest distance between the distribution of x / sigma and the normal one.
inline double kolmogorov_smirnov(std::vector<std::int64_t> x, double sigma) {
  std::sort(x.begin(), x.end());
  const auto n = static_cast<double>(x.size());
  double out = 0.0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double f = 0.5 * std::erfc(-static_cast<double>(x[i]) / sigma / std::sqrt(2.0));
    out = std::max({out, f - static_cast<double>(i) / n, static_cast<double>(i + 1) / n - f});
  }
  return out * std::sqrt(n);
}

inline double correlation(std::span<const double> a, std::span<const double> b) {
  const auto n = static_cast<double>(a.size());
  const double mean_a = std::accumulate(a.begin(), a.end(), 0.0) / n;
  const double mean_b = std::accumulate(b.begin(), b.end(), 0.0) / n;
  double ab = 0.0, aa = 0.0, bb = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    ab += (a[i] - mean_a) * (b[i] - mean_b);
    aa += (a[i] - mean_a) * (a[i] - mean_a);
    bb += (b[i] - mean_b) * (b[i] - mean_b);
  }
  return ab / std::sqrt(aa * bb);
}

/// Gives the words it was handed, in their order, then zeros.
class ScriptedNoise final : public NoiseSource {
 public:
  explicit ScriptedNoise(std::vector<std::uint64_t> script) : script_(std::move(script)) {
    if (auto ready = prepare(); !ready) throw std::runtime_error(ready.error().line());
  }
  bool is_private() const override { return false; }
  /// Whether exactly the script was used.
  bool used_up() {
    const std::uint64_t mark = next();
    return mark == kEnd;
  }

 private:
  static constexpr std::uint64_t kEnd = 0xfeedfacecafebeef;
  void refill(std::span<std::uint64_t> words) override {
    script_.push_back(kEnd);
    std::fill(words.begin(), words.end(), 0);
    std::copy(script_.begin(), script_.end(), words.rbegin());
  }
  std::vector<std::uint64_t> script_;
};

}  // namespace strata::noise

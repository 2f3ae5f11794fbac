#include "export/gguf_rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

namespace strata::exporting {
namespace {

using model::Llama3Scaling;

// Writers compute the factors in float: powers, a division and a difference.
constexpr double kTolerance = 2e-5;

std::vector<double> wavelengths(std::size_t pairs, double theta) {
  std::vector<double> out(pairs);
  for (std::size_t i = 0; i < pairs; ++i) {
    out[i] = 2.0 * std::numbers::pi *
             std::pow(theta, static_cast<double>(i) / static_cast<double>(pairs));
  }
  return out;
}

// What a frequency of this wavelength is divided by: 1 for short waves, `factor` for long ones,
// between them the harmonic blend.
double factor_at(double wavelength, const Llama3Scaling& s) {
  const double turns = s.original_max_positions / wavelength;
  const double smooth =
      std::clamp((turns - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor), 0.0, 1.0);
  return 1.0 / ((1.0 - smooth) / s.factor + smooth);
}

bool fits(const Llama3Scaling& scaling, std::span<const float> factors,
          std::span<const double> waves) {
  for (std::size_t i = 0; i < factors.size(); ++i) {
    const double want = factor_at(waves[i], scaling);
    if (!(std::fabs(static_cast<double>(factors[i]) - want) <= kTolerance * want)) return false;
  }
  return true;
}

// Between the two bounds smooth = original / (high - low) / wavelength - low / (high - low), a
// straight line in 1 / wavelength; its first and last point give it.
std::optional<Llama3Scaling> through_blend(std::span<const float> factors,
                                           std::span<const double> waves, double factor) {
  const auto smooth = [&](std::size_t i) {
    return (1.0 / static_cast<double>(factors[i]) - 1.0 / factor) / (1.0 - 1.0 / factor);
  };
  std::size_t first = factors.size(), last = 0;
  for (std::size_t i = 0; i < factors.size(); ++i) {
    if (smooth(i) <= 1e-3 || smooth(i) >= 1.0 - 1e-3) continue;
    first = std::min(first, i);
    last = i;
  }
  if (first >= last) return std::nullopt;
  const double slope = (smooth(first) - smooth(last)) / (1.0 / waves[first] - 1.0 / waves[last]);
  const double offset = smooth(last) - slope / waves[last];
  if (!(slope > 0.0) || !(offset < 0.0)) return std::nullopt;
  Llama3Scaling out{.factor = factor, .low_freq_factor = 1.0};
  // Published values are whole numbers or halves; the context length is a whole number.
  out.high_freq_factor = std::round(2.0 * (1.0 - 1.0 / offset)) / 2.0;
  out.original_max_positions = std::round(slope * (out.high_freq_factor - 1.0));
  if (!(out.high_freq_factor > 1.0) || !(out.original_max_positions >= 1.0)) return std::nullopt;
  return out;
}

}  // namespace

std::optional<Llama3Scaling> llama3_scaling(std::span<const float> factors, double theta) {
  if (factors.empty() || !(theta > 0.0)) return std::nullopt;
  const auto waves = wavelengths(factors.size(), theta);
  double largest = static_cast<double>(*std::max_element(factors.begin(), factors.end()));
  if (std::fabs(largest - std::round(largest)) <= kTolerance * largest)
    largest = std::round(largest);
  if (!(largest > 1.0)) return std::nullopt;
  // The parameters of Llama 3.1, 3.2 and 3.3 differ in the factor alone. Where no wave is long
  // enough for the whole factor, the largest one seen is not it.
  for (const double factor : {largest, 8.0, 32.0}) {
    const Llama3Scaling published{.factor = factor};
    if (fits(published, factors, waves)) return published;
  }
  const auto fitted = through_blend(factors, waves, largest);
  if (fitted && fits(*fitted, factors, waves)) return fitted;
  return std::nullopt;
}

}  // namespace strata::exporting

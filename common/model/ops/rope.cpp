#include "model/ops/rope.h"

#include <cmath>
#include <numbers>

#include "base/simd.h"

namespace strata::model {

RopeTable::RopeTable(const DecoderConfig& config) : half_(config.head_dim / 2) {
  for (std::size_t i = 0; i < half_; ++i) {
    const double exponent = 2.0 * static_cast<double>(i) / static_cast<double>(config.head_dim);
    double frequency = 1.0 / std::pow(config.rope_theta, exponent);
    if (config.rope_scaling) {
      // Wavelengths longer than the original context are stretched by `factor`, short ones kept,
      // the rest blended.
      const Llama3Scaling& s = *config.rope_scaling;
      const double wavelength = 2.0 * std::numbers::pi / frequency;
      const double low = s.original_max_positions / s.low_freq_factor;
      const double high = s.original_max_positions / s.high_freq_factor;
      if (wavelength > low) {
        frequency /= s.factor;
      } else if (wavelength > high) {
        const double smooth = (s.original_max_positions / wavelength - s.low_freq_factor) /
                              (s.high_freq_factor - s.low_freq_factor);
        frequency = (1.0 - smooth) * frequency / s.factor + smooth * frequency;
      }
    }
    inverse_frequency_.push_back(static_cast<float>(frequency));
  }
}

void RopeTable::ensure(std::size_t positions) {
  if (half_ == 0) return;
  for (std::size_t p = cos_.size() / half_; p < positions; ++p) {
    for (std::size_t i = 0; i < half_; ++i) {
      const float angle =
          static_cast<float>(p) * inverse_frequency_[i];  // float, as the models were trained
      cos_.push_back(std::cos(angle));
      sin_.push_back(std::sin(angle));
    }
  }
}

namespace {

STRATA_SIMD void turn(float* low, float* high, const float* c, const float* s, float sign,
                      std::size_t half) {
#pragma omp simd
  for (std::size_t i = 0; i < half; ++i) {
    const float a = low[i];
    const float b = high[i];
    low[i] = a * c[i] - sign * b * s[i];
    high[i] = b * c[i] + sign * a * s[i];
  }
}

}  // namespace

void rope_apply(tensor::MatrixView x, std::size_t head_dim,
                std::span<const std::uint32_t> positions, const RopeTable& table, bool inverse) {
  const std::size_t half = head_dim / 2;
  const std::size_t heads = x.cols / head_dim;
  for (std::size_t t = 0; t < x.rows; ++t) {
    const float* c = table.cosine(positions[t]).data();
    const float* sn = table.sine(positions[t]).data();
    for (std::size_t h = 0; h < heads; ++h) {
      float* low = x.row(t) + h * head_dim;
      turn(low, low + half, c, sn, inverse ? -1.0f : 1.0f, half);
    }
  }
}

}  // namespace strata::model

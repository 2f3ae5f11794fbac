#pragma once
// exp and its relatives written so that loops over them vectorise: no branches, no tables, no
// library calls.
#include <bit>
#include <cstdint>

namespace strata::model {

/// e^x in float, relative error below 2.6e-7 for x in [-87, 88]; clamped outside. Range reduction x
/// = n ln 2 + r with ln 2 in two parts, then a degree-6 polynomial of e^r on |r| <= ln(2)/2 (Taylor
/// coefficients: the remainder r^7/5040 is below 1.2e-7).
inline float exp_fast(float x) {
  x = x < -87.0f ? -87.0f : (x > 88.0f ? 88.0f : x);
  const float shifted =
      x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: rounds to the nearest whole number
  const float n = shifted - 12582912.0f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  // n is the low bits of `shifted` beside those of 1.5 * 2^23; of a NaN they are anything, and p is
  // NaN already.
  const std::uint32_t exponent = std::bit_cast<std::uint32_t>(shifted) - 0x4B400000u + 127u;
  return p * std::bit_cast<float>(exponent << 23);
}

inline float sigmoid_fast(float x) { return 1.0f / (1.0f + exp_fast(-x)); }

/// tanh(x) = 2 sigmoid(2x) - 1.
inline float tanh_fast(float x) { return 2.0f * sigmoid_fast(2.0f * x) - 1.0f; }

/// The normal distribution's Phi(x), absolute error below 1.2e-7: its upper half as
/// phi(x) t (b1 + t (b2 + ...)), t = 1 / (1 + p x) (Abramowitz & Stegun 26.2.17, error 7.5e-8).
inline float normal_cdf_fast(float x) {
  const float size = x < 0.0f ? -x : x;
  const float t = 1.0f / (1.0f + 0.2316419f * size);
  float sum = 1.330274429f;
  sum = sum * t - 1.821255978f;
  sum = sum * t + 1.781477937f;
  sum = sum * t - 0.356563782f;
  sum = sum * t + 0.319381530f;
  const float above = 0.3989422804f * exp_fast(-0.5f * x * x) * t * sum;
  return x < 0.0f ? above : 1.0f - above;
}

}  // namespace strata::model

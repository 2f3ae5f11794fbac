#include "export/gguf_rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

namespace strata::exporting {
namespace {

using model::Llama3Scaling;

// The factors as llama.cpp's converter makes them, in float.
std::vector<float> factors_of(const Llama3Scaling& s, float theta, std::size_t head_dim) {
  std::vector<float> out;
  for (std::size_t i = 0; i < head_dim; i += 2) {
    const float frequency =
        1.0f / std::pow(theta, static_cast<float>(i) / static_cast<float>(head_dim));
    const float wavelength = 2.0f * std::numbers::pi_v<float> / frequency;
    const auto factor = static_cast<float>(s.factor), low = static_cast<float>(s.low_freq_factor),
               high = static_cast<float>(s.high_freq_factor),
               context = static_cast<float>(s.original_max_positions);
    if (wavelength < context / high) {
      out.push_back(1.0f);
    } else if (wavelength > context / low) {
      out.push_back(factor);
    } else {
      const float smooth = (context / wavelength - low) / (high - low);
      out.push_back(1.0f / ((1.0f - smooth) / factor + smooth));
    }
  }
  return out;
}

void expect_recovered(const Llama3Scaling& s, float theta, std::size_t head_dim) {
  const auto found = llama3_scaling(factors_of(s, theta, head_dim), static_cast<double>(theta));
  ASSERT_TRUE(found) << s.factor << " " << head_dim;
  EXPECT_EQ(found->factor, s.factor);
  EXPECT_EQ(found->low_freq_factor, s.low_freq_factor);
  EXPECT_EQ(found->high_freq_factor, s.high_freq_factor);
  EXPECT_EQ(found->original_max_positions, s.original_max_positions);
}

TEST(GgufRope, ThePublishedScalingsAreFoundFromTheirFactors) {
  for (const double factor : {8.0, 32.0}) {
    for (const std::size_t head_dim : {8, 64, 128})
      expect_recovered({.factor = factor}, 5e5f, head_dim);
  }
}

TEST(GgufRope, OtherParametersAreReadFromTheBlend) {
  expect_recovered({.factor = 4.0, .high_freq_factor = 3.0, .original_max_positions = 4096}, 1e4f,
                   128);
  expect_recovered({.factor = 2.5, .high_freq_factor = 8.0, .original_max_positions = 2048}, 5e5f,
                   64);
}

TEST(GgufRope, WhatCannotBeToldApartTurnsEveryWaveAlike) {
  // Twice the context with twice both frequency factors is the same formula.
  const Llama3Scaling doubled{.factor = 8.0,
                              .low_freq_factor = 2.0,
                              .high_freq_factor = 8.0,
                              .original_max_positions = 16384};
  const auto found = llama3_scaling(factors_of(doubled, 5e5f, 128), 5e5);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->original_max_positions, 8192);
  EXPECT_EQ(found->high_freq_factor, 4.0);
}

TEST(GgufRope, FactorsOfAnotherRuleAreNotTakenForOne) {
  const auto good = factors_of({}, 5e5f, 128);
  for (std::size_t i = 0; i < good.size(); ++i) {
    auto bad = good;
    bad[i] *= 1.001f;
    EXPECT_FALSE(llama3_scaling(bad, 5e5)) << i;
  }
  EXPECT_FALSE(llama3_scaling(good, 1e4)) << "another base";
  EXPECT_FALSE(llama3_scaling(std::vector<float>(64, 4.0f), 5e5)) << "linear scaling";
  EXPECT_FALSE(llama3_scaling({}, 5e5));
  for (const float odd : {0.0f, -1.0f, std::numeric_limits<float>::quiet_NaN(),
                          std::numeric_limits<float>::infinity()}) {
    EXPECT_FALSE(llama3_scaling(std::vector<float>(64, odd), 5e5));
  }
}

}  // namespace
}  // namespace strata::exporting

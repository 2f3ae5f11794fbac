// The functions that loops vectorise, against the library's in double.
#include "model/ops/fast_math.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace strata::model {
namespace {

TEST(FastMath, ExpIsWithinItsErrorOverItsWholeRange) {
  for (int i = -870000; i <= 880000; i += 7) {
    const float x = static_cast<float>(i) * 1e-4f;
    const double exact = std::exp(static_cast<double>(x));
    ASSERT_LT(std::abs(static_cast<double>(exp_fast(x)) / exact - 1.0), 2.6e-7) << x;
  }
}

TEST(FastMath, ExpClampsOutsideItsRange) {
  EXPECT_EQ(exp_fast(-1e30f), exp_fast(-87.0f));
  EXPECT_EQ(exp_fast(1e30f), exp_fast(88.0f));
  EXPECT_EQ(exp_fast(-std::numeric_limits<float>::infinity()), exp_fast(-87.0f));
}

TEST(FastMath, WhatIsNotANumberStaysSo) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(exp_fast(nan)));
  EXPECT_TRUE(std::isnan(exp_fast(-nan)));
  EXPECT_TRUE(std::isnan(sigmoid_fast(nan)));
  EXPECT_TRUE(std::isnan(tanh_fast(nan)));
}

TEST(FastMath, SigmoidAndTanh) {
  for (int i = -2000; i <= 2000; ++i) {
    const double x = 0.01 * i;
    const auto f = static_cast<float>(x);
    EXPECT_NEAR(static_cast<double>(sigmoid_fast(f)), 1.0 / (1.0 + std::exp(-x)), 3e-7);
    EXPECT_NEAR(static_cast<double>(tanh_fast(f)), std::tanh(x), 1e-6);
  }
}

}  // namespace
}  // namespace strata::model

// Each unit is in or out by itself, with a probability that is never above the one charged for.
#include "privacy/noise/poisson.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "privacy/noise/statistics.h"

namespace strata::noise {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// std::lgamma leaves the sign in a global variable.
double log_gamma(double x) {
  int sign = 0;
  return ::lgamma_r(x, &sign);
}

TEST(Poisson, SizesAreBinomialAndUnitsEquallyLikely) {
  const auto source = SeededTestNoise::make(1).value();
  constexpr std::size_t kUnits = 50;
  constexpr int kSteps = 40000;
  const double q = 0.03;
  std::vector<double> counts(kUnits), sizes(8);
  for (int step = 0; step < kSteps; ++step) {
    const auto chosen = select(q, kUnits, *source).value();
    EXPECT_TRUE(std::is_sorted(chosen.begin(), chosen.end()));
    for (const auto unit : chosen) ++counts.at(unit);
    ++sizes[std::min<std::size_t>(chosen.size(), 7)];
  }
  const std::vector<double> each(kUnits, q * kSteps);
  EXPECT_LT(chi_square(counts, each), chi_square_bound(kUnits));
  std::vector<double> binomial(8);
  for (int k = 0; k <= static_cast<int>(kUnits); ++k) {
    const double n = kUnits;
    const double log_p = log_gamma(n + 1) - log_gamma(k + 1.0) - log_gamma(n - k + 1) +
                         k * std::log(q) + (n - k) * std::log1p(-q);
    binomial[static_cast<std::size_t>(std::min(k, 7))] += kSteps * std::exp(log_p);
  }
  EXPECT_LT(chi_square(sizes, binomial), chi_square_bound(7));
  EXPECT_GT(sizes[0], 0.2 * kSteps) << "no unit at all is a step like any other";
}

TEST(Poisson, NothingAndEverythingAreCertain) {
  const auto source = SeededTestNoise::make(2).value();
  EXPECT_THAT(select(0.0, 1000, *source).value(), IsEmpty());
  EXPECT_EQ(select(1.0, 1000, *source).value().size(), 1000u);
  EXPECT_THAT(select(0.5, 0, *source).value(), IsEmpty());
}

TEST(Poisson, TheProbabilityIsRoundedDown) {
  {
    ScriptedNoise source({0, 1, 2, 3, ~std::uint64_t{0}});  // 63 bits count
    EXPECT_THAT(select(0x1p-63, 5, source).value(), ElementsAre(0, 1));
  }
  {
    ScriptedNoise source({0, 1, 2, 3});
    EXPECT_THAT(select(0x1.8p-63, 4, source).value(), ElementsAre(0, 1));
  }
  ScriptedNoise source({0, 1, 2});
  EXPECT_THAT(select(0x1.fffffp-64, 3, source).value(), IsEmpty());
}

TEST(Poisson, WhatIsNoProbabilityIsRefused) {
  const auto source = SeededTestNoise::make(3).value();
  for (const double q : {-0.1, 1.0000001, std::nan(""), HUGE_VAL}) {
    const auto chosen = select(q, 10, *source);
    ASSERT_FALSE(chosen) << q;
    EXPECT_EQ(chosen.error().code, ErrorCode::kConfig);
  }
}

}  // namespace
}  // namespace strata::noise

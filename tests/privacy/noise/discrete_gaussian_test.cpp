// The sampler against its closed form, in the middle, in its low bits and in its moments.
#include "privacy/noise/discrete_gaussian.h"

#include <gtest/gtest.h>

#include "privacy/noise/exact.h"
#include "privacy/noise/statistics.h"

namespace strata::noise {
namespace {

constexpr std::uint64_t kSigma = std::uint64_t{1} << 20;
constexpr std::uint64_t kOnes = ~std::uint64_t{0};

TEST(DiscreteGaussian, HasTheMassOfItsClosedForm) {
  const std::size_t n = 2000000;
  EXPECT_LT(chi_square_of_mass(draw(3, n, 1), 3.0, 12), chi_square_bound(24));
  EXPECT_LT(chi_square_of_mass(draw(1, n, 2), 1.0, 4), chi_square_bound(8));
  EXPECT_LT(chi_square_of_mass(draw(2, n, 3), 2.0, 8), chi_square_bound(16));
}

TEST(DiscreteGaussian, IsToldFromOneTwoThousandthWider) {
  // The same cells and bound see a parameter that is a little wrong: the test above can fail.
  EXPECT_GT(chi_square_of_mass(draw(3, 2000000, 1), 3.02, 12), chi_square_bound(24));
}

TEST(DiscreteGaussian, LowBitsAreUniform) {
  const std::size_t n = 1000000;
  for (const std::uint64_t sigma : {kSigma, kSigma + 12345}) {
    std::vector<double> counts(16);
    const std::vector<double> expected(16, static_cast<double>(n) / 16.0);
    for (const auto x : draw(sigma, n, 4)) ++counts[static_cast<std::size_t>(x & 15)];
    EXPECT_LT(chi_square(counts, expected), chi_square_bound(15)) << sigma;
  }
}

TEST(DiscreteGaussian, IsNormalWhenSeenFromAfar) {
  // sqrt(n) D is above t with probability 2 exp(-2 t^2).
  EXPECT_LT(kolmogorov_smirnov(draw(kSigma, 1000000, 5), kSigma), 2.7);
  EXPECT_LT(kolmogorov_smirnov(draw(DiscreteGaussian::kSigmaMax, 1000000, 6),
                               DiscreteGaussian::kSigmaMax),
            2.7);
}

TEST(DiscreteGaussian, MomentsAndNeighboursAreThoseOfIndependentNormals) {
  const std::size_t n = 1000000;
  const auto root = std::sqrt(static_cast<double>(n));
  for (const std::uint64_t sigma : {std::uint64_t{3}, kSigma, DiscreteGaussian::kSigmaMax - 1}) {
    std::vector<double> x;
    for (const auto v : draw(sigma, n, 7)) x.push_back(static_cast<double>(v) / double(sigma));
    double mean = 0.0, second = 0.0, fourth = 0.0;
    for (const double v : x) {
      mean += v / static_cast<double>(n);
      second += v * v / static_cast<double>(n);
      fourth += v * v * v * v / static_cast<double>(n);
    }
    EXPECT_LT(std::abs(mean) * root, kFar) << sigma;
    EXPECT_LT(std::abs(second - 1.0) * root, kFar * std::sqrt(2.0)) << sigma;
    EXPECT_LT(std::abs(fourth / (second * second) - 3.0) * root, kFar * std::sqrt(24.0)) << sigma;
    const std::span all(x);
    EXPECT_LT(std::abs(correlation(all.first(n - 1), all.last(n - 1))) * root, kFar) << sigma;
  }
}

TEST(DiscreteGaussian, ParametersOutsideItsBoundsAreRefused) {
  EXPECT_EQ(DiscreteGaussian::make(0).error().code, ErrorCode::kConfig);
  EXPECT_EQ(DiscreteGaussian::make(DiscreteGaussian::kSigmaMax + 1).error().code,
            ErrorCode::kConfig);
  EXPECT_TRUE(DiscreteGaussian::make(DiscreteGaussian::kSigmaMax));
}

// 2^64 / 3 lies between two words: the lower of them alone does not decide.
TEST(Exact, AWordThatDoesNotDecideIsFollowedByAnother) {
  constexpr std::uint64_t kThird = 0x5555555555555555;
  const auto ask = [](std::vector<std::uint64_t> words, bool expected) {
    ScriptedNoise source(std::move(words));
    EXPECT_EQ(bernoulli(1, 3, source), expected);
    EXPECT_TRUE(source.used_up());
  };
  ask({kThird - 1}, true);
  ask({kThird + 1}, false);
  ask({kThird, kThird - 1}, true);
  ask({kThird, kThird + 1}, false);
  ask({kThird, kThird, kThird, 0}, true);
  ask({kThird, kThird, kThird, kOnes}, false);
}

TEST(Exact, CertainAnswersAreCertain) {
  for (const std::uint64_t d : {std::uint64_t{1}, std::uint64_t{3}, std::uint64_t{1} << 63}) {
    for (const std::uint64_t word : {std::uint64_t{0}, kOnes / 3, kOnes}) {
      ScriptedNoise source({word, word, word});
      EXPECT_TRUE(bernoulli(d, d, source)) << d << " " << word;
      EXPECT_FALSE(bernoulli(0, d, source)) << d << " " << word;
    }
  }
}

TEST(Exact, TheInverseOfEulersNumberIsReadFromOneWord) {
  constexpr std::uint64_t kSixth = kOnes / 6;  // floor(2^64 / 6)
  const auto ask = [](std::vector<std::uint64_t> words, bool expected) {
    ScriptedNoise source(std::move(words));
    EXPECT_EQ(bernoulli_exp_one(source), expected);
    EXPECT_TRUE(source.used_up());
  };
  ask({kOnes}, false);                    // [1/2, 1)
  ask({std::uint64_t{1} << 63}, false);   // 1/2 itself
  ask({kSixth + 1}, true);                // [1/6, 1/2)
  ask({kSixth - 1}, false);               // [1/24, 1/6)
  ask({kSixth, 0}, false);                // below 1/6 after all
  ask({kSixth, kOnes}, true);             // not below
  ask({kOnes / 40320 - 1, kOnes}, true);  // [1/9!, 1/8!): stops at 9
  ask({0, 0, kOnes}, false);              // [1/10!, 1/9!)
}

TEST(Exact, ProbabilitiesAreThoseOfTheExponential) {
  const auto source = SeededTestNoise::make(8).value();
  constexpr int kDraws = 1000000;
  const auto compare = [&](double p, const auto& ask) {
    int count = 0;
    for (int i = 0; i < kDraws; ++i) count += ask() ? 1 : 0;
    EXPECT_LT(std::abs(count - p * kDraws), kFar * std::sqrt(p * (1.0 - p) * kDraws)) << p;
  };
  compare(std::exp(-1.0), [&] { return bernoulli_exp_one(*source); });
  compare(std::exp(-1.0), [&] { return bernoulli_exp(5, 5, *source); });
  compare(std::exp(-1.0 / 3.0), [&] { return bernoulli_exp(1, 3, *source); });
  compare(std::exp(-0.9), [&] {
    return bernoulli_exp(9'000'000'000'000'000 / 2, 10'000'000'000'000'000 / 2, *source);
  });
  compare(2.0 / 7.0, [&] { return bernoulli(2, 7, *source); });
}

}  // namespace
}  // namespace strata::noise

// The act on a sum of gradients: bounds of units in integers, noise once, the scale that was asked
// for, whatever the number of threads.
#include "privacy/noise/noisy_sum.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "privacy/noise/statistics.h"

namespace strata::noise {
namespace {

using testing::ElementsAre;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

class NoisySumTest : public testing::Test {
 protected:
  // Release of the sum of `units`, noise and all.
  static std::vector<float> release(const Grid& grid, const std::vector<std::vector<float>>& units,
                                    std::size_t size, int threads = 1, double divisor = 1.0) {
    tensor::Team team(threads);
    NoisySum sum(grid, size);
    for (const auto& unit : units) sum.add(unit, team);
    return release(sum, threads, divisor);
  }
  static std::vector<float> release(NoisySum& sum, int threads = 1, double divisor = 1.0) {
    tensor::Team team(threads);
    const auto supply = make_seeded_test_supply(1, threads).value();
    std::vector<float> out(sum.size());
    const auto done = sum.release(*supply, divisor, out, team);
    EXPECT_TRUE(done);
    return out;
  }
  // What the units add, in grid steps: noise of one step leaves room in a float for all digits.
  std::vector<int> steps(const std::vector<std::vector<float>>& units) {
    const auto with = release(fine_, units, units.front().size());
    const auto without = release(fine_, {}, units.front().size());
    std::vector<int> out;
    for (std::size_t i = 0; i < with.size(); ++i)
      out.push_back(static_cast<int>((with[i] - without[i]) * 65536.0f));
    return out;
  }

  const Grid fine_ = Grid::make(1.0, 0x1p-16, 16).value();  // sigma is 1
  const float step_ = 0x1p-16f;
  tensor::Team team_{1};
};

TEST_F(NoisySumTest, UnitsAreRoundedTowardsZeroAndAdded) {
  const float g = step_;
  EXPECT_THAT(steps({{1.9f * g, -1.9f * g, 0.99f * g, -0.99f * g, 5.0f * g}}),
              ElementsAre(1, -1, 0, 0, 5));
  EXPECT_THAT(steps({{1.9f * g, -1.9f * g}, {1.9f * g, 3.5f * g}}), ElementsAre(2, 2));
}

TEST_F(NoisySumTest, AUnitAtTheBoundCountsAndOneStepMoreDoesNot) {
  EXPECT_THAT(steps({{1.0f, 0.0f}}), ElementsAre(65536, 0));
  EXPECT_THAT(steps({{-0.6f, 0.8f}}), ElementsAre(-39321, 52428));
  EXPECT_THAT(steps({{1.0f, step_}}), ElementsAre(0, 0));
  EXPECT_THAT(steps({{0.8f, -0.8f}}), ElementsAre(0, 0));
}

TEST_F(NoisySumTest, AUnitThatIsNotFiniteAddsNothingWhereverItBreaks) {
  // Over several pieces and with ends that fill no vector register; on one thread and on three.
  constexpr std::size_t kSize = 140003;
  const std::vector<float> good(kSize, 0.9f / std::sqrt(static_cast<float>(kSize)));
  const auto expected = release(fine_, {good}, kSize);
  for (const std::size_t at : {std::size_t{0}, kSize / 2, kSize - 1}) {
    for (const float bad : {kNan, -kNan, kInfinity, -kInfinity, 1e30f, -1e30f}) {
      auto unit = good;
      unit[at] = bad;
      EXPECT_EQ(release(fine_, {good, unit}, kSize, 3), expected) << at << " " << bad;
    }
  }
}

TEST_F(NoisySumTest, ManySmallNumbersTogetherBreakTheBound) {
  constexpr std::size_t kSize = 100000;
  const float each = 1.0f / std::sqrt(static_cast<float>(kSize));
  NoisySum sum(fine_, kSize);
  sum.add(std::vector<float>(kSize, each * 0.99f), team_);
  EXPECT_EQ(sum.refused(), 0u);
  sum.add(std::vector<float>(kSize, each * 1.02f), team_);
  sum.add(std::vector<float>(kSize, 3e38f), team_);  // sums of squares beyond 64 bits
  EXPECT_EQ(sum.refused(), 2u);
  EXPECT_EQ(release(sum), release(fine_, {std::vector<float>(kSize, each * 0.99f)}, kSize));
}

TEST_F(NoisySumTest, PiecesOfAUnitAreJudgedTogether) {
  NoisySum sum(fine_, 3);
  const std::vector<float> a{0.6f}, b{0.6f, 0.6f};
  const std::vector<std::span<const float>> unit{a, b};
  sum.add(unit, team_);
  EXPECT_EQ(sum.refused(), 1u);
  const std::vector<float> c{0.1f}, d{0.2f, 0.3f};
  const std::vector<std::span<const float>> other{c, d};
  sum.add(other, team_);
  EXPECT_EQ(release(sum), release(fine_, {{0.1f, 0.2f, 0.3f}}, 3));
}

TEST_F(NoisySumTest, ClippedUnitsOfAnyScaleCount) {
  for (const double clip : {1e-6, 0.3, 1.0, 7.3, 1e6}) {
    for (const int bits : {16, 20, 24}) {
      NoisySum sum(Grid::make(clip, 1.0, bits).value(), 1000);
      for (int i = 0; i < 20; ++i) {
        std::vector<float> unit(1000);
        double norm = 0.0;
        for (std::size_t j = 0; j < unit.size(); ++j) {
          unit[j] = static_cast<float>(std::sin(static_cast<double>(j * (i + 1))));
          norm += static_cast<double>(unit[j]) * unit[j];
        }
        for (float& x : unit) x *= static_cast<float>(clip / std::sqrt(norm) * (1.0 - 0x1p-20));
        sum.add(unit, team_);
      }
      EXPECT_EQ(sum.refused(), 0u) << clip << " " << bits;
    }
  }
}

TEST_F(NoisySumTest, SumsOfThreadsAreMergedToTheSameBits) {
  NoisySum a(fine_, 2), b(fine_, 2);
  a.add(std::vector<float>{0.5f, 0.1f}, team_);
  b.add(std::vector<float>{-0.2f, 0.3f}, team_);
  b.add(std::vector<float>{2.0f, 0.0f}, team_);
  a.merge(b);
  EXPECT_EQ(a.refused(), 1u);
  EXPECT_EQ(release(a), release(fine_, {{0.5f, 0.1f}, {-0.2f, 0.3f}}, 2));
  EXPECT_EQ(release(b), release(fine_, {}, 2)) << "the other is empty";
}

TEST_F(NoisySumTest, SeededNoiseIsTheSameForAnyTeam) {
  const Grid grid = Grid::make(0.7, 1.3).value();
  constexpr std::size_t kSize = 50001;
  const std::vector<std::vector<float>> units(3, std::vector<float>(kSize, 0.001f));
  const auto one = release(grid, units, kSize, 1, 16.0);
  EXPECT_EQ(release(grid, units, kSize, 2, 16.0), one);
  EXPECT_EQ(release(grid, units, kSize, 8, 16.0), one);
}

// Zero gradients, a thousand steps: catches a wrong divisor, noise by thread or by piece, and noise
// that is left out.
TEST_F(NoisySumTest, TheDeviationOfAReleaseIsTheOneAskedForInEveryPart) {
  const double clip = 0.37, multiplier = 1.1, divisor = 48.0;
  constexpr std::size_t kSize = 5000, kPart = 1000;
  for (const bool secure : {false, true}) {
    for (const int threads : {1, 2, 8}) {
      const auto supply = secure ? make_secure_supply(threads).value()
                                 : make_seeded_test_supply(3, threads).value();
      tensor::Team team(threads);
      NoisySum sum(Grid::make(clip, multiplier).value(), kSize);
      std::vector<float> out(kSize);
      std::vector<double> squares(kSize / kPart);
      constexpr int kRuns = 1000;
      for (int run = 0; run < kRuns; ++run) {
        ASSERT_TRUE(sum.release(*supply, divisor, out, team));
        for (std::size_t i = 0; i < kSize; ++i)
          squares[i / kPart] += static_cast<double>(out[i]) * out[i];
      }
      // Half a percent is seven deviations of an estimate from a million numbers.
      for (const double s : squares) {
        EXPECT_NEAR(std::sqrt(s / (kRuns * kPart)) / (multiplier * clip / divisor), 1.0, 0.005)
            << secure << " " << threads;
      }
    }
  }
}

TEST_F(NoisySumTest, ReleasesAndParametersAreIndependent) {
  constexpr std::size_t kSize = 4100;  // the last lie in another piece
  constexpr std::size_t kRuns = 2000;
  const auto supply = make_seeded_test_supply(4, 1).value();
  NoisySum sum(Grid::make(1.0, 1.0).value(), kSize);
  std::vector<float> out(kSize);
  std::vector<std::vector<double>> seen(4);
  for (std::size_t run = 0; run < kRuns; ++run) {
    ASSERT_TRUE(sum.release(*supply, 1.0, out, team_));
    for (std::size_t k = 0; k < 4; ++k)
      seen[k].push_back(out[std::array<std::size_t, 4>{0, 1, 4096, 4097}[k]]);
  }
  const double bound = kFar / std::sqrt(static_cast<double>(kRuns));
  for (std::size_t a = 0; a < 4; ++a) {
    for (std::size_t b = 0; b < a; ++b)
      EXPECT_LT(std::abs(correlation(seen[a], seen[b])), bound) << a << " " << b;
    const std::span all(seen[a]);
    EXPECT_LT(std::abs(correlation(all.first(kRuns - 1), all.last(kRuns - 1))), bound) << a;
  }
}

TEST_F(NoisySumTest, ASumIsReleasedOnce) {
  const auto supply = make_seeded_test_supply(5, 1).value();
  NoisySum sum(Grid::make(1.0, 0x1p-16, 16).value(), 1);
  sum.add(std::vector<float>{1.0f}, team_);
  std::vector<float> out(1);
  ASSERT_TRUE(sum.release(*supply, 1.0, out, team_));
  EXPECT_NEAR(out[0], 1.0f, 20 * step_);
  ASSERT_TRUE(sum.release(*supply, 1.0, out, team_));
  EXPECT_NEAR(out[0], 0.0f, 20 * step_);
}

TEST(Grid, RoundsTheNoiseUpAndKeepsItsBounds) {
  EXPECT_EQ(Grid::make(1.0, 1.0).value().sigma(), std::uint64_t{1} << 20);
  EXPECT_EQ(Grid::make(5.0, 1.0 + 0x1p-30).value().sigma(), (std::uint64_t{1} << 20) + 1);
  EXPECT_EQ(Grid::make(1.0, 1e-9).value().sigma(), 1u);
  EXPECT_EQ(Grid::make(3.0, 1.0, 16).value().step(), 3.0 / 65536.0);
  EXPECT_TRUE(Grid::make(1.0, 64.0, 20));
  const double nan = std::nan("");
  for (const auto& [clip, multiplier, bits] : {std::tuple{1.0, 64.1, 20},
                                               {0.0, 1.0, 20},
                                               {nan, 1.0, 20},
                                               {1.0, nan, 20},
                                               {1.0, 0.0, 20},
                                               {1.0, 1.0, 15},
                                               {1.0, 1.0, 25},
                                               {HUGE_VAL, 1.0, 20},
                                               {1.0, HUGE_VAL, 20},
                                               {1e-305, 1.0, 20},
                                               {-1.0, 1.0, 20}}) {
    const auto grid = Grid::make(clip, multiplier, bits);
    ASSERT_FALSE(grid) << clip << " " << multiplier << " " << bits;
    EXPECT_EQ(grid.error().code, ErrorCode::kConfig);
  }
}

TEST_F(NoisySumTest, ADivisorThatIsNoneIsRefusedAndTheSumKept) {
  const auto supply = make_seeded_test_supply(1, 1).value();
  NoisySum sum(fine_, 1);
  sum.add(std::vector<float>{0.5f}, team_);
  std::vector<float> out{7.0f};
  for (const double divisor : {0.0, -1.0, std::nan(""), HUGE_VAL}) {
    const auto done = sum.release(*supply, divisor, out, team_);
    ASSERT_FALSE(done) << divisor;
    EXPECT_EQ(done.error().code, ErrorCode::kConfig);
    EXPECT_EQ(out[0], 7.0f);
  }
  EXPECT_EQ(release(sum), release(fine_, {{0.5f}}, 1));
}

}  // namespace
}  // namespace strata::noise

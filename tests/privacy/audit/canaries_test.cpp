// The audit against mechanisms of a few lines: one that is right, and the ways of being wrong that
// it is there to find.
#include "privacy/audit/canaries.h"

#include <gtest/gtest.h>

#include <cmath>

#include "privacy/accountant/accountant.h"
#include "privacy/accountant/calibrate.h"
#include "sys/random.h"

namespace strata::privacy {
namespace {

constexpr int kSeeds = 100;
constexpr Delta kDelta{1e-5};
constexpr double kConfidence = 0.95;

// What a mechanism does wrong.
struct Fault {
  double contribution = 1.0;  // of a unit, over what it may be
  double noise = 1.0;         // over what was charged
  std::int64_t reused = 0;    // the same noise comes again after so many steps; 0: never
};

struct Case {
  std::string name;
  double epsilon;
  double rate;
  std::int64_t per_round;
  std::int64_t rounds;
  std::size_t values;

  [[nodiscard]] std::int64_t steps() const { return per_round * rounds; }
};

double multiplier(const Case& c) {
  const auto pld = make_accountant("pld").value();
  return calibrate(*pld, Adjacency::kAddRemove,
                   {.epsilon = {c.epsilon},
                    .delta = kDelta,
                    .rate = c.rate,
                    .releases = static_cast<double>(c.steps())})
      .value()
      .noise_multiplier;
}

CanaryPlan plan_of(const Case& c) {
  CanaryPlan plan{.canaries = 0,
                  .values = c.values,
                  .per_round = c.per_round,
                  .rounds = c.rounds,
                  .sampling_rate = c.rate,
                  .seed = 0};
  plan.canaries = canaries_for({c.epsilon}, kDelta, kConfidence, plan).value();
  return plan;
}

AuditVerdict audited(const Case& c, CanaryPlan plan, double z, const Fault& fault,
                     std::uint64_t seed) {
  plan.seed = seed;
  Canaries canaries = Canaries::make(plan).value();
  sys::Stream draws = sys::Stream(seed).at({.purpose = "the mechanism"});
  std::vector<std::vector<float>> noise(static_cast<std::size_t>(c.steps()));
  for (std::int64_t step = 0; step < c.steps(); ++step) {
    auto& own = noise[static_cast<std::size_t>(step)];
    own.resize(c.values);
    if (fault.reused > 0 && step >= fault.reused) {
      own = noise[static_cast<std::size_t>(step - fault.reused)];
    } else {
      for (float& value : own) value = static_cast<float>(z * fault.noise * draws.normal());
    }
    std::vector<float> release = own;
    for (std::size_t unit = 0; unit < canaries.planted(); ++unit) {
      if (draws.uniform() < c.rate)
        release[canaries.place(unit)] +=
            static_cast<float>(fault.contribution * canaries.sign(unit, step));
    }
    canaries.see(step, release, 1.0);
  }
  return verdict_of(canaries.findings(kDelta, kConfidence).value(), {c.epsilon});
}

class Audit : public testing::TestWithParam<Case> {
 protected:
  int count(const Fault& fault, AuditVerdict verdict, int seeds) {
    const double z = multiplier(GetParam());
    const CanaryPlan plan = plan_of(GetParam());
    int out = 0;
    for (int seed = 0; seed < seeds; ++seed)
      out +=
          audited(GetParam(), plan, z, fault, static_cast<std::uint64_t>(seed)) == verdict ? 1 : 0;
    return out;
  }
};

TEST_P(Audit, NeverAccusesARightRun) {
  EXPECT_EQ(count({}, AuditVerdict::kConsistent, kSeeds), kSeeds);
}

TEST_P(Audit, FindsMissingClipping) {
  EXPECT_EQ(count({.contribution = 100.0}, AuditVerdict::kViolated, 10), 10);
}

TEST_P(Audit, FindsATenthOfTheNoise) {
  EXPECT_EQ(count({.noise = 0.1}, AuditVerdict::kViolated, 10), 10);
}

TEST_P(Audit, FindsNoNoise) { EXPECT_EQ(count({.noise = 0.0}, AuditVerdict::kViolated, 10), 10); }

TEST_P(Audit, FindsTheSameNoiseInEveryStep) {
  if (GetParam().steps() == 1) GTEST_SKIP() << "one release has nothing to be used again";
  EXPECT_EQ(count({.reused = 1}, AuditVerdict::kViolated, 10), 10);
}

// As after a generator that is set back.
TEST_P(Audit, FindsTheSameNoiseInEveryRound) {
  if (GetParam().rounds == 1) GTEST_SKIP() << "one round has nothing to be used again";
  EXPECT_EQ(count({.reused = GetParam().per_round}, AuditVerdict::kViolated, 10), 10);
}

INSTANTIATE_TEST_SUITE_P(Mechanisms, Audit,
                         testing::Values(Case{"one_step", 2.0, 1.0, 1, 1, 4000},
                                         Case{"full_batches", 6.0, 1.0, 1, 6, 4000},
                                         Case{"odd_steps", 4.0, 1.0, 5, 3, 4000},
                                         Case{"half_drawn", 4.0, 0.5, 4, 2, 4000},
                                         Case{"few_drawn", 3.0, 0.05, 10, 4, 4000}),
                         [](const auto& one) { return one.param.name; });

TEST(Canaries, SignsAreBalancedInEveryCanary) {
  const auto canaries =
      Canaries::make({.canaries = 50, .values = 60, .per_round = 3, .rounds = 3, .seed = 3})
          .value();
  for (std::size_t unit = 0; unit < canaries.planted(); ++unit) {
    int sum = 0;
    for (std::int64_t step = 0; step < 9; ++step) sum += canaries.sign(unit, step);
    EXPECT_EQ(std::abs(sum), 1);
  }
}

TEST(Canaries, CoinsFallBothWays) {
  double in = 0.0;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    in += static_cast<double>(
        Canaries::make({.canaries = 1000, .values = 1000, .rounds = 1, .seed = seed})
            .value()
            .planted());
  }
  EXPECT_NEAR(in / 20000.0, 0.5, 4.9 * 0.5 / std::sqrt(20000.0));
}

TEST(Canaries, EachHasAValueOfItsOwn) {
  const auto refused = Canaries::make({.canaries = 11, .values = 10, .rounds = 1, .seed = 0});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kConfig);
}

TEST(Canaries, TooFewProveNothing) {
  const Case c{"few", 8.0, 1.0, 1, 2, 200};
  EXPECT_EQ(audited(c, plan_of(c), multiplier(c), {.noise = 0.0}, 1), AuditVerdict::kInconclusive);
}

}  // namespace
}  // namespace strata::privacy

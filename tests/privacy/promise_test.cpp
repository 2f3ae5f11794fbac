// What a privacy section comes to in numbers.
#include "privacy/promise.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "privacy/noise/grid.h"

namespace strata::privacy {
namespace {

using testing::HasSubstr;

PrivacyConfig config() {
  PrivacyConfig out;
  out.mode = "example_dpsgd";
  out.budget = {.epsilon = 3.0, .delta = 1e-6};
  out.sampling.q = 0.01;
  out.batch_divisor = 64.0;
  return out;
}

constexpr Schedule kSchedule{.per_round = 50, .rounds = 20};

Promise promise(const PrivacyConfig& privacy, const Schedule& schedule = kSchedule) {
  auto out = promise_of(privacy, schedule, "privacy");
  EXPECT_TRUE(out) << out.error().line();
  return *out;
}

TEST(Promise, CalibratesToTheBudgetAndNotFarBelow) {
  const auto p = promise(config());
  EXPECT_TRUE(p.calibrated);
  EXPECT_LE(p.epsilon, 3.0);
  EXPECT_GT(p.epsilon, 2.99);
  EXPECT_LE(p.epsilon, p.epsilon_rdp);
}

TEST(Promise, AGivenMultiplierIsHeldAgainstTheBudget) {
  auto privacy = config();
  privacy.noise.multiplier = promise(config()).noise_multiplier * 0.9;
  const auto broken = promise_of(privacy, kSchedule, "privacy");
  ASSERT_FALSE(broken);
  EXPECT_EQ(broken.error().where, "privacy.noise.multiplier");
  privacy.budget.epsilon.reset();
  EXPECT_GT(promise(privacy).epsilon, 3.0);  // without a budget it is only told
}

TEST(Promise, APersonAtSeveralClientsNeedsMoreNoise) {
  auto privacy = config();
  privacy.noise.multiplier = 1.0;
  privacy.budget.epsilon.reset();
  const double one = promise(privacy).epsilon;
  privacy.max_clients_per_person = 4;
  const auto four = promise(privacy);
  EXPECT_GT(four.epsilon, one);
  privacy.max_clients_per_person = 1;
  const auto longer = promise(privacy, {.per_round = 200, .rounds = 20});
  EXPECT_EQ(four.epsilon, longer.epsilon);
  EXPECT_EQ(grid_slack(four, 20, 1000), grid_slack(longer, 20, 1000));
}

// One noise on the sum: whoever is at four clients moves it four times as far, which is sixteen
// releases' worth (mu = 4 sqrt(T) / z).
TEST(Promise, APersonAtSeveralClientsOfOneSumNeedsTheSquareOfIt) {
  auto privacy = config();
  privacy.mode = "client_central";
  privacy.unit = {.kind = "client"};
  privacy.sampling.q.reset();
  privacy.noise.multiplier = 20.0;
  privacy.budget.epsilon.reset();
  privacy.max_clients_per_person = 4;
  const auto four = promise(privacy, {.per_round = 1, .rounds = 5});
  privacy.max_clients_per_person = 1;
  const auto longer = promise(privacy, {.per_round = 1, .rounds = 80});
  EXPECT_EQ(four.epsilon, longer.epsilon);
  EXPECT_EQ(four.charges_per_release(), 16);
  privacy.noise.multiplier = 5.0;  // the same distance at a quarter of the noise
  EXPECT_NEAR(promise(privacy, {.per_round = 1, .rounds = 5}).epsilon, four.epsilon,
              1e-3 * four.epsilon);
}

TEST(Promise, ReplacingOneRecordCostsMoreThanRemovingIt) {
  auto privacy = config();
  privacy.noise.multiplier = 1.0;
  privacy.budget.epsilon.reset();
  const double removed = promise(privacy).epsilon;
  privacy.adjacency = "replace_one";
  const auto swapped = promise(privacy);
  EXPECT_GT(swapped.epsilon, removed);
  EXPECT_TRUE(std::isnan(swapped.epsilon_rdp));  // there is no such bound
}

// The count of units below C is a release of its own: the gradients pay for it with more noise,
//   z^-2 = z_gradient^-2 + (2 sigma_b)^-2          Andrew et al. 2021, theorem 1
TEST(Promise, AdaptiveClippingIsPaidFor) {
  auto adaptive = config();
  adaptive.clip.kind = "adaptive";
  adaptive.clip.sigma_b = 2.0;
  const auto p = promise(adaptive);
  const double charged = std::pow(p.gradient_multiplier, -2.0) + std::pow(4.0, -2.0);
  EXPECT_GT(p.gradient_multiplier, p.noise_multiplier);
  EXPECT_NEAR(charged * std::pow(p.noise_multiplier, 2.0), 1.0, 1e-9);
}

TEST(Promise, SeededNoisePromisesNothing) {
  auto privacy = config();
  privacy.seeded_noise = true;
  const auto p = promise(privacy);
  EXPECT_TRUE(std::isinf(p.epsilon));
  EXPECT_THAT(sentence(p), HasSubstr("PRIVATE=NO"));
}

TEST(GridBits, AreAsManyAsTheSlackNeeds) {
  const auto p = promise(config());
  EXPECT_EQ(grid_bits_of(p, 0, 1, "privacy").value(), 20);
  constexpr std::size_t kValues = 1000000;
  const int more = grid_bits_of(p, 0, kValues, "privacy").value();
  EXPECT_GT(more, 20);
  EXPECT_LE(grid_slack(p, more, kValues), p.delta / 100);
  EXPECT_GT(grid_slack(p, more - 1, kValues), p.delta / 100);
}

// The discrete noise is at most 2^26 steps: much of it needs a coarser grid than usual.
TEST(GridBits, AreFewerWhereTheNoiseWouldNotFit) {
  auto privacy = config();
  privacy.sampling = {.scheme = "full", .q = {}};
  privacy.budget = {.epsilon = 0.5, .delta = 1e-6};
  const auto p = promise(privacy);
  ASSERT_GT(p.noise_multiplier, 64.0);
  const int bits = grid_bits_of(p, 0, 100000, "privacy").value();
  EXPECT_LT(bits, 20);
  EXPECT_TRUE(noise::Grid::make(1.0, p.gradient_multiplier, bits));
}

// Also when the bound is by Renyi divergences: discrete noise is known to have those of continuous
// noise at whole orders only.
TEST(GridBits, TooFewAreRefusedWhateverTheAccountant) {
  auto privacy = config();
  privacy.budget.epsilon = 8.0;
  for (const char* accountant : {"pld", "rdp"}) {
    privacy.accountant.kind = accountant;
    const auto refused = grid_bits_of(promise(privacy), 16, 1000000, "privacy");
    ASSERT_FALSE(refused) << accountant;
    EXPECT_EQ(refused.error().where, "privacy.noise.grid_bits");
  }
}

}  // namespace
}  // namespace strata::privacy

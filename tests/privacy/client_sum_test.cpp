#include "privacy/client_sum.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

namespace strata::privacy {
namespace {

using Vector = std::vector<float>;

constexpr double kNorm = 0.5;
constexpr double kLittle = 0x1p-20;  // one step of the grid: as good as no noise

ClientSumConfig config_of(double multiplier, double weight_max = 1.0, double denominator = 3.0) {
  return {.clip = {.kind = "flat", .norm = kNorm},
          .noise_multiplier = multiplier,
          .weight_max = weight_max,
          .denominator = denominator};
}

Vector mean_of(const ClientSumConfig& config, const std::vector<std::pair<double, Vector>>& updates,
               std::size_t values) {
  auto sum = ClientSum::make(config, values).value();
  tensor::Team team;
  for (auto [weight, update] : updates) sum.add(update, weight, team);
  const auto supply = noise::make_seeded_test_supply(7, 1).value();
  Vector out(values);
  EXPECT_TRUE(sum.release(*supply, out, team));
  return out;
}

// Some numbers of a given norm, other ones for each `seed`.
Vector vector_of(double norm, unsigned seed, std::size_t values = 40) {
  Vector out(values);
  double squares = 0.0;
  for (std::size_t i = 0; i < values; ++i) {
    out[i] = static_cast<float>(std::sin(static_cast<double>(1 + i * (seed + 3)) + seed));
    squares += std::pow(static_cast<double>(out[i]), 2);
  }
  for (float& v : out) v = static_cast<float>(static_cast<double>(v) * norm / std::sqrt(squares));
  return out;
}

double norm_of(const Vector& v) {
  double squares = 0.0;
  for (const float x : v) squares += std::pow(static_cast<double>(x), 2);
  return std::sqrt(squares);
}

// The tensor that leaves has the deviation that is charged for, whoever came and with which weight.
TEST(ClientSum, TheDeviationIsThatOfTheHeaviestClientOverTheConstant) {
  constexpr double kMultiplier = 1.7, kWeightMax = 2.5, kDenominator = 11.0;
  constexpr std::size_t kValues = 300000;
  const double due = kWeightMax * kNorm * kMultiplier / kDenominator;
  for (const std::size_t clients : {0u, 3u}) {
    auto sum = ClientSum::make(config_of(kMultiplier, kWeightMax, kDenominator), kValues).value();
    tensor::Team team;
    Vector zero(kValues, 0.0F), out(kValues);
    for (std::size_t i = 0; i < clients; ++i) sum.add(zero, 0.5 + static_cast<double>(i), team);
    const auto supply = noise::make_secure_supply(1).value();
    ASSERT_TRUE(sum.release(*supply, out, team));
    const double deviation = norm_of(out) / std::sqrt(static_cast<double>(kValues));
    EXPECT_NEAR(deviation / due, 1.0, 0.005) << clients;
    EXPECT_NEAR(std::accumulate(out.begin(), out.end(), 0.0) / kValues, 0.0, 0.01 * due);
  }
}

TEST(ClientSum, IsTheWeightedMeanOfTheClippedUpdates) {
  const std::vector<std::pair<double, Vector>> updates{
      {1.0, vector_of(0.3, 1)}, {2.5, vector_of(0.45, 2)}, {0.5, vector_of(7.0, 3)}};
  const auto mean = mean_of(config_of(kLittle, 2.5, 4.0), updates, 40);
  for (std::size_t i = 0; i < mean.size(); ++i) {
    double expected = 0.0;
    for (const auto& [weight, update] : updates)
      expected += weight * static_cast<double>(update[i]) * std::min(1.0, kNorm / norm_of(update));
    // Rounding towards zero, once a client, and noise of a step.
    EXPECT_NEAR(static_cast<double>(mean[i]), expected / 4.0, 9 * kNorm * 0x1p-20 * 2.5 / 4.0);
  }
}

TEST(ClientSum, AHugeUpdateMovesTheMeanByTheBoundAndNoMore) {
  for (const double weight : {0.5, 2.0}) {
    const auto mean = mean_of(config_of(kLittle, 2.0, 8.0), {{weight, vector_of(1e20, 4)}}, 40);
    EXPECT_NEAR(norm_of(mean), weight * kNorm / 8.0, 1e-5) << weight;
  }
}

TEST(ClientSum, AnUpdateThatIsNoNumberAddsNothing) {
  Vector odd = vector_of(0.1, 5);
  for (const float value :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    odd[17] = value;
    const Vector good = vector_of(0.4, 6);
    EXPECT_EQ(mean_of(config_of(kLittle), {{1.0, good}, {1.0, odd}}, 40),
              mean_of(config_of(kLittle), {{1.0, good}}, 40));
  }
}

TEST(ClientSum, WhoStaysAwayDoesNotChangeTheDivisor) {
  const Vector own = vector_of(0.4, 8);
  const auto alone = mean_of(config_of(kLittle), {{1.0, own}}, 40);
  EXPECT_NEAR(norm_of(alone), 0.4 / 3.0, 1e-5);
  const Vector zero(40, 0.0F);
  EXPECT_EQ(alone, mean_of(config_of(kLittle), {{1.0, own}, {1.0, zero}, {1.0, zero}}, 40));
}

TEST(ClientSum, NormalisesEveryUpdateToJustBelowTheBound) {
  auto config = config_of(kLittle, 1.0, 1.0);
  config.clip = {.kind = "normalise", .norm = kNorm, .gamma = 0.01};
  for (const double norm : {1e-3, 1.0, 100.0}) {
    const auto mean = mean_of(config, {{1.0, vector_of(norm, 9)}}, 40);
    EXPECT_NEAR(norm_of(mean), kNorm * norm / (norm + 0.01), 2e-5) << norm;
  }
}

TEST(ClientSum, BeginsAnewAfterARelease) {
  auto sum = ClientSum::make(config_of(kLittle), 40).value();
  tensor::Team team;
  const auto supply = noise::make_seeded_test_supply(7, 1).value();
  Vector own = vector_of(0.4, 8), out(40);
  sum.add(own, 1.0, team);
  ASSERT_TRUE(sum.release(*supply, out, team));
  ASSERT_TRUE(sum.release(*supply, out, team));
  EXPECT_LT(norm_of(out), 1e-4);
}

TEST(ClientSum, RefusesWhatItCannotPromise) {
  const auto code = [](const ClientSumConfig& config) {
    const auto made = ClientSum::make(config, 4);
    return made ? std::string() : made.error().line();
  };
  auto config = config_of(1.0);
  EXPECT_EQ(code(config), "");
  config.clip.kind = "adaptive";
  EXPECT_NE(code(config).find("privacy.clip.kind"), std::string::npos);
  EXPECT_NE(code(config_of(1.0, 0.0)).find("privacy.weights"), std::string::npos);
  EXPECT_NE(code(config_of(1.0, 1.0, INFINITY)).find("privacy.weights"), std::string::npos);
  EXPECT_NE(code(config_of(0.0)).find("noise multiplier"), std::string::npos);
}

}  // namespace
}  // namespace strata::privacy

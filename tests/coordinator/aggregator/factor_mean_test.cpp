#include "coordinator/aggregator/factor_mean.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/updates.h"

namespace strata::coordinator {
namespace {

using adapter::Dense;
using adapter::LowRank;
using protocol::Update;
using support::random_matrix;
using support::random_pair;
using support::update_of;
using tensor::Matrix;
using testing::HasSubstr;

constexpr std::size_t kOut = 11, kIn = 7;

Result<Aggregate> aggregate(std::string_view method, const std::vector<Update>& updates) {
  auto fold = (*find_aggregator(method))->make({});
  for (const auto& update : updates) {
    if (auto taken = fold->accumulate(update); !taken) return fail(std::move(taken).error());
  }
  return std::move(*fold).report();
}

Update client(const std::string& name, double weight, LowRank pair) {
  return update_of(name, weight, "w", kOut, kIn, {std::move(pair)});
}

TEST(FactorMean, MissesTheMeanByTheCovarianceOfTheFactors) {
  const std::vector<double> p{0.5, 0.2, 0.3};
  std::vector<Update> updates;
  std::vector<LowRank> pairs;
  for (unsigned k = 0; k < 3; ++k) {
    pairs.push_back(random_pair(kOut, kIn, 4, k));
    updates.push_back(client("c" + std::to_string(k), p[k], pairs.back()));
  }
  const auto out = aggregate("fedavg", updates);
  ASSERT_TRUE(out) << out.error().line();
  EXPECT_TRUE(out->packet.empty());  // the base stays as it is: the model is base + mean factors
  const LowRank& mean = out->mean_factors.at("w");

  // sum_k p_k B_k A_k - Bbar Abar = sum_k p_k (B_k - Bbar)(A_k - Abar)
  std::vector<double> covariance(kOut * kIn, 0.0);
  for (unsigned k = 0; k < 3; ++k) {
    for (std::size_t i = 0; i < kOut; ++i) {
      for (std::size_t j = 0; j < 4; ++j) {
        for (std::size_t c = 0; c < kIn; ++c) {
          covariance[i * kIn + c] += p[k] * (static_cast<double>(pairs[k].b(i, j)) - mean.b(i, j)) *
                                     (static_cast<double>(pairs[k].a(j, c)) - mean.a(j, c));
        }
      }
    }
  }
  auto bias = support::dense_mean(updates, "w");
  const auto averaged = support::dense(mean);
  for (std::size_t i = 0; i < bias.size(); ++i) bias[i] -= averaged[i];
  EXPECT_LT(support::relative_distance(bias, covariance), 1e-5);
  EXPECT_GT(support::relative_distance(averaged, support::dense_mean(updates, "w")), 0.1);
}

TEST(FactorMean, IsExactWhenOneFactorIsCommon) {
  const Matrix a = random_matrix(4, kIn, 9);
  std::vector<Update> updates;
  for (unsigned k = 0; k < 3; ++k) {
    updates.push_back(
        client("c" + std::to_string(k), k + 1.0, {.b = random_matrix(kOut, 4, k), .a = a}));
  }
  const auto out = aggregate("fedavg", updates);
  ASSERT_TRUE(out);
  EXPECT_LT(support::relative_distance(support::dense(out->mean_factors.at("w")),
                                       support::dense_mean(updates, "w")),
            1e-6);
}

TEST(FactorMean, DependsOnTheGaugeWhereStackingDoesNot) {
  const LowRank pair = random_pair(kOut, kIn, 2, 1);
  LowRank same = pair;  // (-B, -A) is the same client
  for (float& value : same.b.values()) value = -value;
  for (float& value : same.a.values()) value = -value;
  const std::vector<Update> updates{client("x", 1.0, pair), client("y", 1.0, same)};
  for (const double value : support::dense(aggregate("fedavg", updates)->mean_factors.at("w")))
    EXPECT_EQ(value, 0.0);
  EXPECT_LT(support::relative_distance(
                support::dense(aggregate("flora", updates)->packet.tensors.at("w")),
                support::dense(pair)),
            1e-6);
}

TEST(FactorMean, ZeroPadWidensToTheLargestRank) {
  const LowRank x = random_pair(kOut, kIn, 1, 1), y = random_pair(kOut, kIn, 3, 2);
  const auto out = aggregate("zero_pad", {client("x", 1.0, x), client("y", 3.0, y)});
  ASSERT_TRUE(out);
  const LowRank& mean = out->mean_factors.at("w");
  ASSERT_EQ(mean.a.rows(), 3U);
  EXPECT_EQ(mean.b(4, 0), static_cast<float>(0.25 * static_cast<double>(x.b(4, 0)) +
                                             0.75 * static_cast<double>(y.b(4, 0))));
  EXPECT_EQ(mean.b(4, 2), static_cast<float>(0.75 * static_cast<double>(y.b(4, 2))));
  EXPECT_EQ(mean.a(2, 5), static_cast<float>(0.75 * static_cast<double>(y.a(2, 5))));
}

TEST(FactorMean, UnequalRanksAreAnErrorNamingZeroPadWhoeverComesFirst) {
  std::vector<Update> updates{client("x", 1.0, random_pair(kOut, kIn, 1, 1)),
                              client("y", 3.0, random_pair(kOut, kIn, 3, 2))};
  const auto refused = aggregate("fedavg", updates);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kConfig);
  EXPECT_THAT(refused.error().line(),
              testing::AllOf(HasSubstr("x has rank 1, y 3"), HasSubstr("zero_pad")));
  std::swap(updates[0], updates[1]);
  EXPECT_EQ(aggregate("fedavg", updates).error().line(), refused.error().line());
}

TEST(FactorMean, WhatCannotBeAveragedIsKnownBeforeTraining) {
  const auto fedavg = *find_aggregator("fedavg"), zero_pad = *find_aggregator("zero_pad");
  const std::vector<PlannedUpdate> unequal{{"x", {{"w", 2}}}, {"y", {{"w", 2}}}, {"z", {{"w", 4}}}};
  const auto refused = fedavg->check(unequal);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kConfig);
  EXPECT_THAT(refused.error().line(), HasSubstr("x has rank 2, y 2, z 4"));
  EXPECT_TRUE(zero_pad->check(unequal));
  EXPECT_TRUE(fedavg->check(std::span(unequal).first(2)));
  const std::vector<PlannedUpdate> elsewhere{{"x", {{"w", 2}}}, {"y", {{"v", 2}, {"w", 2}}}};
  for (const auto* method : {fedavg, zero_pad}) {
    const auto other_layers = method->check(elsewhere);
    ASSERT_FALSE(other_layers);
    EXPECT_THAT(other_layers.error().line(), HasSubstr("x does not adapt it"));
  }
  EXPECT_EQ((*find_aggregator("flora"))->check, nullptr);
}

TEST(FactorMean, OtherTargetsOrMethodsAreAnErrorNamingTheClient) {
  std::vector<Update> updates{client("x", 1.0, random_pair(kOut, kIn, 2, 1)),
                              client("y", 3.0, random_pair(kOut, kIn, 2, 2))};
  updates[1].delta["v"] = {kIn, kOut, {random_pair(kIn, kOut, 2, 3)}};
  for (const std::string method : {"fedavg", "zero_pad"}) {
    const auto refused = aggregate(method, updates);
    ASSERT_FALSE(refused);
    EXPECT_THAT(refused.error().line(),
                testing::AllOf(HasSubstr("v"), HasSubstr("x does not adapt it")));
  }
  const auto mixed = aggregate(
      "zero_pad",
      {updates[0], update_of("z", 1.0, "w", kOut, kIn, {Dense{random_matrix(kOut, kIn, 4)}})});
  ASSERT_FALSE(mixed);
  EXPECT_THAT(mixed.error().line(), HasSubstr("z"));
}

TEST(FactorMean, SeveralTermsOfOneClientAreRefused) {
  const auto refused = aggregate(
      "fedavg", {update_of("x", 1.0, "w", kOut, kIn,
                           {random_pair(kOut, kIn, 2, 1), random_pair(kOut, kIn, 2, 2)})});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kIncompatibleUpdate);
}

TEST(FactorMean, FullParametersAreAveragedIntoThePacket) {
  const std::vector<Update> updates{
      update_of("x", 1.0, "norm", 5, 1, {Dense{random_matrix(5, 1, 1)}}),
      update_of("y", 3.0, "norm", 5, 1, {Dense{random_matrix(5, 1, 2)}})};
  const auto out = aggregate("fedavg", updates);
  ASSERT_TRUE(out);
  EXPECT_TRUE(out->mean_factors.empty());
  EXPECT_LT(support::relative_distance(support::dense(out->packet.tensors.at("norm")),
                                       support::dense_mean(updates, "norm")),
            1e-6);
}

}  // namespace
}  // namespace strata::coordinator

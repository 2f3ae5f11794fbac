#include "coordinator/coordinator.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "coordinator/golden_model.h"

namespace strata::coordinator {
namespace {

protocol::Update update(const Coordinator& coordinator, const std::string& client, std::size_t rank,
                        float value) {
  const auto& parameter = coordinator.model().parameters()[coordinator.model().find(kTensor)];
  adapter::LowRank pair{.b = tensor::Matrix(parameter.d_out(), rank),
                        .a = tensor::Matrix(rank, parameter.d_in())};
  for (std::size_t i = 0; i < pair.b.size(); ++i)
    pair.b.values()[i] = value * static_cast<float>(i % 7);
  for (std::size_t i = 0; i < pair.a.size(); ++i)
    pair.a.values()[i] = static_cast<float>(i % 5) - 2.0f;
  protocol::Update out{
      .client = client, .round = coordinator.round(), .base = coordinator.chain(), .weight = 1.0};
  out.delta[kTensor] = {parameter.d_out(), parameter.d_in(), {pair}};
  return out;
}

Coordinator coordinator_of(const AggregationConfig& config) {
  return Coordinator::make(config, golden_model()).value();
}

TEST(Coordinator, FactorsThatAreDrawnEachRoundNeedAFreshStart) {
  const auto line = [](const AggregationConfig& config, bool seeded) {
    const std::vector<PlannedUpdate> clients{{"one", {{kTensor, 2}}},
                                             {"two", {{kTensor, 2}}, seeded}};
    const auto able = coordinator_of(config).check_clients(clients);
    if (able) return std::string();
    EXPECT_EQ(able.error().code, ErrorCode::kConfig);
    return able.error().line();
  };
  EXPECT_EQ(line({}, true), "");
  for (const AggregationConfig& other :
       {AggregationConfig{.restart = "keep"}, AggregationConfig{.method = "fedavg"},
        AggregationConfig{.method = "zero_pad"}}) {
    EXPECT_EQ(line(other, false), "");
    const std::string said = line(other, true);
    EXPECT_NE(said.find("two draws A anew each round"), std::string::npos) << said;
    EXPECT_NE(said.find(other.method == "flora" ? "aggregation.restart" : "aggregation.method"),
              std::string::npos)
        << said;
  }
}

TEST(Coordinator, ARoundChangesTheModelByTheMeanOfTheUpdates) {
  auto coordinator = coordinator_of({});
  const std::size_t at = coordinator.model().find(kTensor);
  std::vector<float> before(coordinator.model().parameters()[at].size());
  coordinator.model().parameters()[at].copy_values(before);
  const auto one = update(coordinator, "one", 2, 0.01f);
  const auto two = update(coordinator, "two", 5, -0.02f);
  ASSERT_TRUE(coordinator.accept(one));
  ASSERT_TRUE(coordinator.accept(two));
  std::vector<double> expected;
  adapter::add_dense(one.delta.at(kTensor), 0.5, expected);
  adapter::add_dense(two.delta.at(kTensor), 0.5, expected);
  const auto report = coordinator.close();
  ASSERT_TRUE(report);
  EXPECT_LT(report->exactness.relative_error, 1e-6);
  std::vector<float> after(before.size());
  coordinator.model().parameters()[at].copy_values(after);
  for (std::size_t i = 0; i < after.size(); ++i) {
    EXPECT_NEAR(after[i], static_cast<double>(before[i]) + expected[i],
                1e-6 * (1.0 + std::abs(expected[i])));
  }
}

TEST(Coordinator, ArrivalOrderChangesNoBit) {
  auto first = coordinator_of({});
  auto second = coordinator_of({});
  for (const char* name : {"a", "b", "c"})
    ASSERT_TRUE(first.accept(update(first, name, 3, 0.01f * static_cast<float>(name[0] - 90))));
  for (const char* name : {"c", "a", "b"})
    ASSERT_TRUE(second.accept(update(second, name, 3, 0.01f * static_cast<float>(name[0] - 90))));
  EXPECT_EQ(hex(first.close()->chain), hex(second.close()->chain));
  EXPECT_EQ(hex(first.model().state_hash()), hex(second.model().state_hash()));
}

TEST(Coordinator, AClientWithNanIsRefusedByNameAndTheOthersGoOn) {
  auto coordinator = coordinator_of({});
  auto sick = update(coordinator, "sick", 2, 0.01f);
  std::get<adapter::LowRank>(sick.delta.at(kTensor).terms.front()).a(1, 3) =
      std::numeric_limits<float>::quiet_NaN();
  const auto refused = coordinator.accept(sick);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kIncompatibleUpdate);
  EXPECT_NE(refused.error().line().find("sick"), std::string::npos) << refused.error().line();
  EXPECT_NE(refused.error().line().find(kTensor), std::string::npos) << refused.error().line();
  ASSERT_TRUE(coordinator.accept(update(coordinator, "well", 2, 0.01f)));
  EXPECT_EQ(coordinator.close()->clients, std::vector<std::string>{"well"});
}

TEST(Coordinator, AnUpdateForAnotherRoundModelOrTensorIsRefused) {
  auto coordinator = coordinator_of({});
  auto late = update(coordinator, "late", 2, 0.01f);
  late.round = 7;
  EXPECT_FALSE(coordinator.accept(late));
  auto elsewhere = update(coordinator, "elsewhere", 2, 0.01f);
  elsewhere.base = Sha256{};
  EXPECT_FALSE(coordinator.accept(elsewhere));
  auto unknown = update(coordinator, "unknown", 2, 0.01f);
  unknown.delta["no.such.weight"] = unknown.delta.at(kTensor);
  EXPECT_FALSE(coordinator.accept(unknown));
  const auto closed = coordinator.close();
  ASSERT_FALSE(closed);
  EXPECT_EQ(closed.error().code, ErrorCode::kQuorum);
}

TEST(Coordinator, AveragingMethodsLeaveTheBaseAndFoldAtTheEnd) {
  auto coordinator = coordinator_of({.method = "zero_pad"});
  const auto before = coordinator.model().state_hash();
  ASSERT_TRUE(coordinator.accept(update(coordinator, "one", 2, 0.01f)));
  ASSERT_TRUE(coordinator.accept(update(coordinator, "two", 3, 0.02f)));
  ASSERT_TRUE(coordinator.close());
  EXPECT_EQ(hex(coordinator.model().state_hash()), hex(before));
  EXPECT_EQ(coordinator.mean_factors().at(kTensor).a.rows(), 3u);
  EXPECT_NE(hex(std::move(coordinator).finish().state_hash()), hex(before));
}

TEST(Coordinator, KeepIsRefusedForAveragingMethods) {
  const auto made = Coordinator::make({.method = "fedavg", .restart = "keep"}, golden_model());
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, ErrorCode::kConfig);
}

}  // namespace
}  // namespace strata::coordinator

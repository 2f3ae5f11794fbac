// LTE's mean over all planned heads, whoever is missing.
#include <gtest/gtest.h>

#include "coordinator/coordinator.h"
#include "coordinator/golden_model.h"
#include "support/updates.h"

namespace strata::coordinator {
namespace {

std::vector<double> weights_of(const model::Model& model) {
  const auto& parameter = model.parameters()[model.find(kTensor)];
  std::vector<float> values(parameter.size());
  parameter.copy_values(values);
  return {values.begin(), values.end()};
}

std::vector<double> product(const adapter::LowRank& pair) {
  std::vector<double> out;
  adapter::add_dense({pair.b.rows(), pair.a.cols(), {pair}}, 1.0, out);
  return out;
}

adapter::LowRank negated(adapter::LowRank pair) {
  for (float& value : pair.b.values()) value = -value;
  return pair;
}

// A head as its client keeps it.
struct Head {
  std::string name;
  double weight = 1.0;
  std::optional<adapter::LowRank> told;  // as last merged
};

// W_t = W_0 + sum_n p_n s B_n A_n with the shares of the plan, also when heads miss merges.
TEST(Lte, MergedWeightsAreTheFirstOnesAndTheMeanOfAllHeadsLastTold) {
  auto coordinator =
      Coordinator::make({.method = "lte", .rounds = 6, .measure = true}, golden_model()).value();
  ASSERT_EQ(coordinator.restart(), protocol::Restart::kKeep);
  const auto before = weights_of(coordinator.model());
  const auto& parameter = coordinator.model().parameters()[coordinator.model().find(kTensor)];
  std::vector<Head> heads{{"a", 1.0, {}}, {"b", 1.0, {}}, {"c", 2.0, {}}, {"d", 1.0, {}}};
  std::vector<PlannedUpdate> planned;
  double whole = 0.0;
  for (const auto& head : heads) {
    planned.push_back({.client = head.name, .ranks = {{kTensor, 3}}, .weight = head.weight});
    whole += head.weight;
  }
  ASSERT_TRUE(coordinator.check_clients(planned));
  coordinator.expect(planned);
  for (unsigned round = 0; round < 6; ++round) {
    for (std::size_t n = 0; n < heads.size(); ++n) {
      if ((round + n) % 4 == 3) continue;  // misses this merge, and keeps what it told last
      auto now = support::random_pair(parameter.d_out(), parameter.d_in(), 3,
                                      static_cast<unsigned>(std::size_t{100} * round + n));
      protocol::Update update{.client = heads[n].name,
                              .round = coordinator.round(),
                              .base = coordinator.chain(),
                              .weight = heads[n].weight};
      auto& change = update.delta[kTensor] = {parameter.d_out(), parameter.d_in(), {now}};
      if (heads[n].told) change.terms.emplace_back(negated(*heads[n].told));
      ASSERT_TRUE(coordinator.accept(update));
      heads[n].told = now;
    }
    const auto report = coordinator.close();
    ASSERT_TRUE(report) << report.error().line();
    EXPECT_LT(report->exactness.relative_error, 1e-6);
  }
  auto expected = before;
  for (const auto& head : heads) {
    const auto own = product(*head.told);
    for (std::size_t i = 0; i < own.size(); ++i) expected[i] += head.weight / whole * own[i];
  }
  const auto after = weights_of(coordinator.model());
  double error = 0.0, size = 0.0;
  for (std::size_t i = 0; i < after.size(); ++i) {
    error += (after[i] - expected[i]) * (after[i] - expected[i]);
    size += (expected[i] - before[i]) * (expected[i] - before[i]);
  }
  EXPECT_LT(std::sqrt(error / size), 1e-6);
}

// What is trained beside heads is new each round: of those that came, whatever their updates say
// they weigh.
TEST(Lte, TensorsTrainedThemselvesAreAveragedOverThoseThatCame) {
  auto coordinator = Coordinator::make({.method = "lte"}, golden_model()).value();
  std::vector<PlannedUpdate> planned;
  for (const char* name : {"a", "b", "c", "d"})
    planned.push_back({.client = name, .ranks = {{"model.norm.weight", 0}}, .weight = 1.0});
  coordinator.expect(planned);
  const auto& parameter =
      coordinator.model().parameters()[coordinator.model().find("model.norm.weight")];
  std::vector<float> before(parameter.size()), after(parameter.size());
  parameter.copy_values(before);
  for (unsigned n = 0; n < 2; ++n) {
    protocol::Update update{.client = planned[n].client,
                            .round = 1,
                            .base = coordinator.chain(),
                            .weight = n == 0 ? 1e6 : 1.0};
    tensor::Matrix change(parameter.d_out(), parameter.d_in());
    std::fill(change.values().begin(), change.values().end(), n == 0 ? 1.0F : 3.0F);
    update.delta["model.norm.weight"] = {
        parameter.d_out(), parameter.d_in(), {adapter::Dense{std::move(change)}}};
    ASSERT_TRUE(coordinator.accept(update));
  }
  const auto report = coordinator.close();
  ASSERT_TRUE(report) << report.error().line();
  EXPECT_LT(report->exactness.relative_error, 1e-6);
  coordinator.model().parameters()[coordinator.model().find("model.norm.weight")].copy_values(
      after);
  for (std::size_t i = 0; i < after.size(); ++i) EXPECT_NEAR(after[i] - before[i], 2.0F, 1e-5F);
}

TEST(Lte, FirstMergeIsStackingWithEqualWeights) {
  const auto merged = [](const std::string& method) {
    auto coordinator = Coordinator::make({.method = method}, golden_model()).value();
    const auto& parameter = coordinator.model().parameters()[coordinator.model().find(kTensor)];
    std::vector<PlannedUpdate> planned;
    for (const char* name : {"a", "b", "c"})
      planned.push_back({.client = name, .ranks = {{kTensor, 2}}, .weight = 1.0});
    coordinator.expect(planned);
    for (unsigned n = 0; n < 3; ++n) {
      protocol::Update update{
          .client = planned[n].client, .round = 1, .base = coordinator.chain(), .weight = 1.0};
      update.delta[kTensor] = {parameter.d_out(),
                               parameter.d_in(),
                               {support::random_pair(parameter.d_out(), parameter.d_in(), 2, n)}};
      EXPECT_TRUE(coordinator.accept(update));
    }
    return coordinator.close().value().packet;
  };
  EXPECT_EQ(hex(merged("lte")), hex(merged("flora")));
}

// With fresh factors a missing head takes no part, as in stacking.
TEST(Lte, WithFreshFactorsSharesAreOfThoseThatCame) {
  auto coordinator =
      Coordinator::make({.method = "lte", .restart = "fresh"}, golden_model()).value();
  const auto& parameter = coordinator.model().parameters()[coordinator.model().find(kTensor)];
  std::vector<PlannedUpdate> planned{{.client = "a", .ranks = {{kTensor, 2}}},
                                     {.client = "b", .ranks = {{kTensor, 2}}}};
  coordinator.expect(planned);
  protocol::Update update{.client = "b", .round = 1, .base = coordinator.chain(), .weight = 1.0};
  update.delta[kTensor] = {parameter.d_out(),
                           parameter.d_in(),
                           {support::random_pair(parameter.d_out(), parameter.d_in(), 2, 1)}};
  ASSERT_TRUE(coordinator.accept(update));
  EXPECT_EQ(coordinator.close().value().aggregate.weights.at("b"), 1.0);
}

TEST(Lte, FactorsOfSeveralHeadsCannotBeAveraged) {
  for (const std::string method : {"fedavg", "zero_pad"}) {
    const auto coordinator = Coordinator::make({.method = method}, golden_model()).value();
    const std::vector<PlannedUpdate> planned{{.client = "a", .ranks = {{kTensor, 4}}, .heads = 2},
                                             {.client = "b", .ranks = {{kTensor, 4}}}};
    const auto able = coordinator.check_clients(planned);
    ASSERT_FALSE(able);
    EXPECT_EQ(able.error().code, ErrorCode::kConfig);
    EXPECT_NE(able.error().line().find("a has 2 heads"), std::string::npos) << able.error().line();
  }
}

}  // namespace
}  // namespace strata::coordinator

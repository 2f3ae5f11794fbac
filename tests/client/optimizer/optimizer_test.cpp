#include "client/optimizer/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "tensor/team.h"

namespace strata::client {
namespace {

using Vectors = std::vector<std::vector<float>>;

nlohmann::json golden() {
  std::ifstream file(STRATA_SOURCE_DIR "/tests/golden/optimizer/optimizer.json");
  return nlohmann::json::parse(file);
}

// The two parameters of the golden run: the second learns twice as fast and does not decay.
struct Parameters {
  Vectors values;
  Vectors grads;

  [[nodiscard]] std::vector<adapter::ParamRef> refs() {
    std::vector<adapter::ParamRef> out;
    for (std::size_t i = 0; i < values.size(); ++i) {
      out.push_back({.name = "p" + std::to_string(i),
                     .value = values[i],
                     .grad = grads[i],
                     .lr_multiplier = i == 0 ? 1.0f : 2.0f,
                     .decay = i == 0});
    }
    return out;
  }
};

void expect_near(const Vectors& actual, const Vectors& expected, const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) {
    ASSERT_EQ(actual[i].size(), expected[i].size());
    for (std::size_t j = 0; j < actual[i].size(); ++j) {
      EXPECT_NEAR(actual[i][j], expected[i][j], 3e-7f * (1.0f + std::fabs(expected[i][j])))
          << what << " p" << i << "[" << j << "]";
    }
  }
}

std::unique_ptr<Optimizer> made(const OptimizerConfig& config) {
  auto optimizer = make_optimizer(config);
  if (!optimizer) throw std::runtime_error(optimizer.error().line());
  return *std::move(optimizer);
}

void follow(const nlohmann::json& run, const OptimizerConfig& config) {
  tensor::Team team(2);
  auto optimizer = made(config);
  Parameters params{.values = run["values"][0], .grads = run["grads"][0]};
  for (std::size_t step = 0; step < run["grads"].size(); ++step) {
    params.grads = run["grads"][step].get<Vectors>();
    optimizer->step(params.refs(), 0.03 * (1.0 - static_cast<double>(step) / 10.0), team);
    expect_near(params.values, run["values"][step + 1].get<Vectors>(),
                "step " + std::to_string(step));
  }
}

const OptimizerConfig kAdamW{
    .method = "adamw", .beta1 = 0.9, .beta2 = 0.99, .epsilon = 1e-6, .weight_decay = 0.1};
const OptimizerConfig kSgd{.method = "sgd", .weight_decay = 0.1, .momentum = 0.9};

TEST(AdamW, FollowsTorch) { follow(golden()["adamw"], kAdamW); }

TEST(Sgd, WithMomentumFollowsTorch) { follow(golden()["sgd"], kSgd); }

TEST(Sgd, WithoutMomentumFollowsTorch) {
  follow(golden()["plain_sgd"], {.method = "sgd", .weight_decay = 0.1});
}

// Large enough for several pieces, with a ragged end.
Parameters large() {
  Parameters out{.values = {std::vector<float>(100'003), std::vector<float>(7)}, .grads = {}};
  for (auto& values : out.values) {
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = std::sin(static_cast<float>(i));
  }
  out.grads = out.values;
  for (auto& values : out.grads) {
    for (float& value : values) value = value * value - 0.3f;
  }
  return out;
}

class EveryOptimizer : public testing::TestWithParam<std::string> {
 protected:
  [[nodiscard]] static OptimizerConfig config() { return GetParam() == "sgd" ? kSgd : kAdamW; }
};

TEST_P(EveryOptimizer, GivesTheSameBitsForAnyThreadCount) {
  Parameters one = large();
  Parameters three = large();
  auto alone = made(config());
  auto together = made(config());
  tensor::Team serial(1), team(3);
  for (int step = 0; step < 3; ++step) {
    alone->step(one.refs(), 0.01, serial);
    together->step(three.refs(), 0.01, team);
  }
  EXPECT_EQ(one.values, three.values);
}

TEST_P(EveryOptimizer, ContinuesBitForBitFromASavedState) {
  tensor::Team team(2);
  Parameters params = large();
  auto optimizer = made(config());
  for (int step = 0; step < 3; ++step) optimizer->step(params.refs(), 0.01, team);
  Parameters copy = params;
  auto other = made(config());
  ASSERT_TRUE(other->load(optimizer->state()));
  optimizer->step(params.refs(), 0.01, team);
  other->step(copy.refs(), 0.01, team);
  EXPECT_EQ(params.values, copy.values);
}

TEST_P(EveryOptimizer, StartsAgainAfterReset) {
  tensor::Team team(2);
  Parameters params = large();
  Parameters copy = params;
  auto optimizer = made(config());
  optimizer->step(copy.refs(), 0.5, team);
  optimizer->reset();
  auto fresh = made(config());
  copy = params;
  optimizer->step(copy.refs(), 0.01, team);
  fresh->step(params.refs(), 0.01, team);
  EXPECT_EQ(params.values, copy.values);
}

TEST_P(EveryOptimizer, RefusesTheStateOfAnother) {
  tensor::Team team(2);
  Parameters params = large();
  auto optimizer = made(config());
  optimizer->step(params.refs(), 0.01, team);
  auto state = optimizer->state();
  state["p0.unknown"] = {1.0f};
  const auto foreign = optimizer->load(state);
  ASSERT_FALSE(foreign);
  EXPECT_NE(foreign.error().line().find("p0.unknown"), std::string::npos);
  EXPECT_FALSE(optimizer->load({}));
}

INSTANTIATE_TEST_SUITE_P(Registry, EveryOptimizer, testing::ValuesIn([] {
                           std::vector<std::string> names;
                           for (const auto& entry : optimizers()) names.emplace_back(entry.name);
                           return names;
                         }()),
                         [](const auto& member) { return member.param; });

TEST(MakeOptimizer, NamesTheNearestForAnUnknownMethod) {
  const auto unknown = make_optimizer({.method = "adamv"});
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, ErrorCode::kConfig);
  EXPECT_NE(unknown.error().line().find("adamw"), std::string::npos);
}

TEST(MakeOptimizer, RefusesValuesOutOfRangeByName) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::pair<OptimizerConfig, std::string> cases[] = {
      {{.learning_rate = 0.0}, "learning_rate"},
      {{.learning_rate = nan}, "learning_rate"},
      {{.beta1 = 1.0}, "beta1"},
      {{.beta2 = -0.1}, "beta2"},
      {{.epsilon = 0.0}, "epsilon"},
      {{.weight_decay = -1.0}, "weight_decay"},
      {{.momentum = nan}, "momentum"}};
  for (const auto& [config, key] : cases) {
    const auto made_or_not = make_optimizer(config);
    ASSERT_FALSE(made_or_not) << key;
    EXPECT_NE(made_or_not.error().line().find(key), std::string::npos)
        << made_or_not.error().line();
  }
}

TEST(ClipGlobalNorm, FollowsTorch) {
  tensor::Team team(2);
  const auto expected = golden();
  ASSERT_EQ(expected["clip"].size(), 2u);
  for (const auto& item : expected["clip"]) {
    Parameters params{.values = item["before"], .grads = item["before"]};
    const double norm = clip_global_norm(params.refs(), item["max_norm"], team);
    EXPECT_NEAR(norm, item["norm"].get<double>(), 1e-6);
    expect_near(params.grads, item["after"].get<Vectors>(), "clipped");
  }
}

TEST(ClipGlobalNorm, OnlyMeasuresWithoutALimit) {
  tensor::Team team(2);
  Parameters params{.values = {{0.0f, 0.0f}}, .grads = {{3.0f, 4.0f}}};
  EXPECT_EQ(clip_global_norm(params.refs(), 0.0, team), 5.0);
  EXPECT_EQ(params.grads, (Vectors{{3.0f, 4.0f}}));
}

TEST(ClipGlobalNorm, LeavesNonFiniteGradientsForTheCallerToReport) {
  tensor::Team team(2);
  const float infinity = std::numeric_limits<float>::infinity();
  Parameters params{.values = {{0.0f, 0.0f}}, .grads = {{infinity, 4.0f}}};
  EXPECT_FALSE(std::isfinite(clip_global_norm(params.refs(), 1.0, team)));
  EXPECT_EQ(params.grads, (Vectors{{infinity, 4.0f}}));
}

}  // namespace
}  // namespace strata::client

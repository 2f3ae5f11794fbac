#include "client/schedule/schedule.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

namespace strata::client {
namespace {

Schedule made(const ScheduleConfig& config, std::int64_t total) {
  auto schedule = Schedule::make(config, total);
  if (!schedule) throw std::runtime_error(schedule.error().line());
  return *schedule;
}

TEST(Schedule, FollowsTransformersForEveryRegisteredName) {
  std::ifstream file(STRATA_SOURCE_DIR "/tests/golden/optimizer/optimizer.json");
  std::set<std::string> seen;
  const auto golden = nlohmann::json::parse(file);
  for (const auto& item : golden["schedules"]) {
    const std::string method = item["method"];
    const auto schedule = made({.method = method, .warmup_steps = item["warmup"]}, item["steps"]);
    const auto factors = item["factors"].get<std::vector<double>>();
    for (std::size_t step = 0; step < factors.size(); ++step) {
      EXPECT_NEAR(schedule.factor(static_cast<std::int64_t>(step)), factors[step], 1e-15)
          << method << " of " << item["steps"] << ", warm-up " << item["warmup"] << ", step "
          << step;
    }
    seen.insert(method);
  }
  EXPECT_EQ(seen.size(), schedules().size()) << "a schedule has no golden";
}

TEST(Schedule, RisesAgainAfterARestartWithoutAStepOfZero) {
  const auto schedule = made({.method = "linear", .rewarm_steps = 3}, 20);
  for (std::int64_t since = 0; since < 6; ++since) {
    const double plain = schedule.factor(10 + since);
    const double rise = since < 3 ? static_cast<double>(since + 1) / 4.0 : 1.0;
    EXPECT_DOUBLE_EQ(schedule.factor(10 + since, 10), plain * rise) << since;
  }
}

TEST(Schedule, TakesTheStartOfTheRunForNoRestart) {
  EXPECT_EQ(made({.rewarm_steps = 3}, 20).factor(0, 0), 1.0);
}

TEST(Schedule, NamesTheNearestForAnUnknownMethod) {
  const auto unknown = Schedule::make({.method = "cosin"}, 10);
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, ErrorCode::kConfig);
  EXPECT_NE(unknown.error().line().find("\"cosine\""), std::string::npos);
}

TEST(Schedule, RefusesNegativeCountsByName) {
  const auto bad = Schedule::make({.warmup_steps = -1}, 10);
  ASSERT_FALSE(bad);
  EXPECT_NE(bad.error().line().find("warmup_steps is -1"), std::string::npos);
}

}  // namespace
}  // namespace strata::client

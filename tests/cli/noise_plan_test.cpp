// What `strata privacy plan` says about the noise of the merged update.
#include "cli/noise_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "federation.h"

namespace strata::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

class NoisePlanTest : public testing::Test {
 protected:
  NoisePlanTest() {
    job()["adapter"] = {{"method", "lora"}, {"rank", 4}, {"alpha", 8}, {"targets", {"q_proj"}}};
    job()["training"] = {{"local_steps", 2}, {"optimizer", "sgd"}, {"learning_rate", 0.5}};
    job()["aggregation"]["rounds"] = 3;
    job()["privacy"] = {{"mode", "example_dpsgd"},
                        {"budget", {{"delta", 1e-5}}},
                        {"noise", {{"multiplier", 2.0}}},
                        {"sampling", {{"scheme", "full"}}},
                        {"batch_divisor", 4},
                        {"clip", {{"kind", "flat"}, {"C", 0.5}}}};
  }
  json& job() { return federation_.job; }
  Finished plan(std::vector<std::string> more = {}) {
    support::write_file(federation_.folder / "job.json", job().dump(1));
    std::vector<std::string> args{"privacy", "plan", federation_.folder / "job.json"};
    args.insert(args.end(), more.begin(), more.end());
    return strata(args);
  }
  json data() {
    const Finished done = plan({"--format", "json"});
    EXPECT_EQ(done.status, 0) << done.err << done.out;
    return json::parse(done.out).at("data");
  }
  static json of(const json& data, const std::string& method) {
    for (const auto& entry : data.at("alternatives")) {
      if (entry.at("method") == method) return entry;
    }
    throw std::runtime_error("no " + method);
  }

  support::ScratchFolder scratch_;
  Federation federation_{scratch_.path()};
  // By hand: three q_proj of 24 x 24, rank 4, s 2, two clients of weight 1/2, three rounds of two
  // steps of rate 1/2 whose noise is 2 * 0.5 / 4 in each value.
  static constexpr double kVariance = 0.0625 * 2 * 0.25;
  static constexpr double kLinear = 3 * 3 * 0.5 * 4 * 24 * kVariance * 4 / 3;
  static constexpr double kProduct = 3 * 3 * 0.5 * 4 * 24 * 4 * 24 * kVariance * kVariance;
};

TEST_F(NoisePlanTest, ComparesTheMethodsAndRecommendsTheOneWithLess) {
  const json got = data();
  const json lora = of(got, "lora"), seeded = of(got, "seeded-a");
  EXPECT_NEAR(lora.at("linear_norm").get<double>(), std::sqrt(kLinear), 1e-9);
  EXPECT_NEAR(lora.at("product_norm").get<double>(), std::sqrt(kProduct), 1e-9);
  EXPECT_NEAR(lora.at("noise_norm").get<double>(), std::sqrt(kLinear + kProduct), 1e-9);
  EXPECT_NEAR(seeded.at("noise_norm").get<double>(), std::sqrt(kLinear), 1e-9);
  EXPECT_EQ(seeded.at("product_norm"), 0.0);
  EXPECT_EQ(of(got, "ffa").at("noise_norm"), seeded.at("noise_norm"));
  EXPECT_EQ(got.at("merged_noise").at("noise_norm"), lora.at("noise_norm"));
  EXPECT_EQ(got.at("recommendation").at("adapter.method"), "seeded-a");
  EXPECT_NEAR(got.at("recommendation").at("noise_ratio").get<double>(),
              std::sqrt(1.0 + kProduct / kLinear), 1e-9);
  EXPECT_THAT(plan().out,
              HasSubstr("With adapter.method \"seeded-a\" the merged update would have " +
                        std::string("1.8 times less noise")));
}

TEST_F(NoisePlanTest, IsSilentWhereNothingIsGained) {
  for (const char* method : {"seeded-a", "ffa"}) {
    job()["adapter"]["method"] = method;
    const json got = data();
    EXPECT_TRUE(got.at("recommendation").is_null()) << method;
    EXPECT_NEAR(got.at("merged_noise").at("noise_norm").get<double>(), std::sqrt(kLinear), 1e-9);
    EXPECT_THAT(plan().out, Not(HasSubstr("times less noise"))) << method;
  }
  // So little noise that its product with itself is nothing.
  job()["adapter"]["method"] = "lora";
  job()["training"]["learning_rate"] = 0.01;
  EXPECT_TRUE(data().at("recommendation").is_null());
}

TEST_F(NoisePlanTest, FactorsThatGoOnMultiplyTheNoiseOfAllRounds) {
  job()["aggregation"]["restart"] = "keep";
  EXPECT_NEAR(data().at("merged_noise").at("product_norm").get<double>(), std::sqrt(3.0 * kProduct),
              1e-9);
  job()["aggregation"] = {{"method", "fedavg"}, {"rounds", 3}};
  const json averaged = data();
  // The mean of two clients' A is shorter; one A for all is not.
  EXPECT_NEAR(averaged.at("merged_noise").at("linear_norm").get<double>(), std::sqrt(kLinear / 2.0),
              1e-9);
  EXPECT_NEAR(of(averaged, "ffa").at("noise_norm").get<double>(), std::sqrt(kLinear), 1e-9);
  EXPECT_NEAR(averaged.at("merged_noise").at("product_norm").get<double>(),
              std::sqrt(3.0 * kProduct / 2.0), 1e-9);
  EXPECT_THAT(plan().out, HasSubstr("aggregation.method \"flora\" and restart \"fresh\""));
}

TEST_F(NoisePlanTest, SaysNothingOfWhatTheEquationsDoNotSpeakOf) {
  job()["adapter"]["heads"] = 2;
  const json got = data();
  EXPECT_FALSE(got.contains("merged_noise"));
  EXPECT_EQ(got.at("clients").size(), 2U);
}

TEST_F(NoisePlanTest, CountsWhoIsDrawnMomentumAndWhatScalesItself) {
  job()["aggregation"]["clients_per_round"] = 1;
  EXPECT_NEAR(of(data(), "seeded-a").at("noise_norm").get<double>(), std::sqrt(2.0 * kLinear),
              1e-9);
  job()["aggregation"]["clients_per_round"] = 0;
  job()["training"]["momentum"] = 0.5;  // the first step's noise goes on in the second: 1.5^2 + 1
  EXPECT_NEAR(of(data(), "seeded-a").at("noise_norm").get<double>(),
              std::sqrt(kLinear * 3.25 / 2.0), 1e-9);
  job()["training"] = {{"local_steps", 2}, {"optimizer", "adamw"}, {"learning_rate", 0.5}};
  EXPECT_NEAR(of(data(), "seeded-a").at("noise_norm").get<double>(), std::sqrt(kLinear * 16.0),
              1e-9);  // 1 instead of 1/4
  EXPECT_THAT(plan().out, HasSubstr("as if that were noise alone"));
}

}  // namespace
}  // namespace strata::cli

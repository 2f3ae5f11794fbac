// --shrink: the noise of a private run as it is known from its folder, against the noise that the
// run really made, and what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "cli/federation.h"
#include "export/peft.h"

namespace strata::cli {
namespace {

using testing::HasSubstr;

class Shrinking : public testing::Test {
 protected:
  Shrinking() {
    job()["adapter"] = {
        {"method", "seeded-a"}, {"rank", 4}, {"alpha", 8}, {"targets", {"all-linear"}}};
    job()["training"] = {{"local_steps", 2}, {"optimizer", "sgd"}, {"learning_rate", 0.001}};
    job()["aggregation"]["rounds"] = 3;
    // So much noise that it is all there is to see, the same in every run of the test.
    job()["privacy"] = {{"mode", "example_dpsgd"},
                        {"budget", {{"delta", 1e-5}}},
                        {"noise", {{"multiplier", 1000.0}}},
                        {"sampling", {{"scheme", "full"}}},
                        {"batch_divisor", 7},
                        {"clip", {{"kind", "flat"}, {"C", 0.5}}},
                        {"test_mode", {{"seeded_noise", true}, {"i_understand", true}}}};
  }
  json& job() { return federation_.job; }
  fs::path adapter() const { return federation_.out() / "adapter"; }
  void run() {
    support::write_file(federation_.folder / "job.json", job().dump(1));
    const Finished done = federation_.run({"--force"});
    ASSERT_EQ(done.status, 0) << done.err;
  }
  Finished eval(std::vector<std::string> more) const {
    std::vector<std::string> args{"eval", "--model", federation_.model(), "--data",
                                  federation_.b()};
    args.insert(args.end(), more.begin(), more.end());
    return strata(args);
  }
  json evaluated(std::vector<std::string> more) const {
    more.insert(more.end(), {"--format", "json"});
    const Finished done = eval(more);
    EXPECT_EQ(done.status, 0) << done.err << done.out;
    return json::parse(done.out).at("data");
  }
  // The mean square of the whitened change: 1 if its noise is what the folder says. A fifth of a
  // thousand values and more are looked at, so a factor of the deviation that is wrong by a
  // twentieth shows.
  void expect_noise_is_known() {
    run();
    const json found = evaluated({"--adapter", adapter(), "--shrink"}).at("shrinkage");
    EXPECT_NEAR(found.at("whitened_mean_square").get<double>(), 1.0, 0.06) << found.dump();
    EXPECT_EQ(found.at("layers"), 21);
    EXPECT_LE(found.at("directions_left").get<int>(), 2) << found.dump();
    EXPECT_NEAR(found.at("norm_before").get<double>() / found.at("noise_norm").get<double>(), 1.0,
                0.1);
  }
  void expect_refused(const std::string& why) {
    run();
    const Finished done = eval({"--adapter", adapter(), "--shrink"});
    EXPECT_EQ(done.status, 7) << done.out;
    EXPECT_THAT(done.err, HasSubstr(why));
  }

  support::ScratchFolder scratch_;
  Federation federation_{scratch_.path()};
};

TEST_F(Shrinking, KnowsTheNoiseOfAMovingA) { expect_noise_is_known(); }

TEST_F(Shrinking, RefusesTheNoiseOfACoordinator) {
  auto& privacy = job()["privacy"];
  privacy["mode"] = "client_central";
  privacy["unit"] = {{"kind", "client"}};
  privacy["weights"] = {{"denominator", 4.0}};
  privacy.erase("sampling");
  privacy.erase("batch_divisor");
  expect_refused("client_central");
}

TEST_F(Shrinking, KnowsTheNoiseOfAMovingRateAndUnequalClients) {
  job()["training"]["schedule"] = "linear";
  job()["training"]["warmup_steps"] = 2;
  job()["training"]["rewarm_steps"] = 1;
  job()["adapter"]["lr_ratio_b"] = 3.0;
  job()["adapter"]["alpha_pattern"] = {{"q_proj", 32}};
  job()["clients"][1]["adapter"] = {{"rank", 2}};
  job()["privacy"]["weights"] = {{"kind", "public"}, {"values", {{"anna", 1.0}, {"berta", 3.0}}}};
  expect_noise_is_known();
}

TEST_F(Shrinking, KnowsTheNoiseOfAFrozenAWhoseFactorsAreAveraged) {
  job()["adapter"]["method"] = "ffa";
  job()["aggregation"]["method"] = "fedavg";
  expect_noise_is_known();
}

TEST_F(Shrinking, KnowsTheNoiseOfAFrozenAThatIsKept) {
  job()["adapter"]["method"] = "ffa";
  job()["aggregation"]["restart"] = "keep";
  expect_noise_is_known();
}

TEST_F(Shrinking, KnowsTheNoiseOfLayersClippedByThemselves) {
  job()["privacy"]["clip"] = {{"kind", "per_layer"}, {"bounds", {{"q_proj", 0.5}, {".*", 0.1}}}};
  expect_noise_is_known();
}

TEST_F(Shrinking, KnowsTheNoiseOfWholeUpdatesWhateverTheOptimizer) {
  job()["training"]["optimizer"] = "adamw";
  auto& privacy = job()["privacy"];
  privacy["mode"] = "client_local";
  privacy["unit"] = {{"kind", "client"}};
  privacy["adjacency"] = "replace_one";
  privacy.erase("sampling");
  privacy.erase("batch_divisor");
  expect_noise_is_known();
}

// The clients of some rounds only: each round's own weights count.
TEST_F(Shrinking, KnowsWhoWasInWhichRound) {
  job()["aggregation"]["clients_per_round"] = 1;
  expect_noise_is_known();
}

TEST_F(Shrinking, EvalExportAndMergeDoTheSame) {
  job()["privacy"]["noise"]["multiplier"] = 1.0;
  job()["training"]["learning_rate"] = 3.0;
  run();
  const json raw = evaluated({"--adapter", adapter()});
  EXPECT_FALSE(raw.contains("shrinkage"));
  const json shrunk = evaluated({"--adapter", adapter(), "--shrink"});
  const double loss = shrunk.at("loss");
  EXPECT_NE(loss, raw.at("loss").get<double>());
  const fs::path merged = scratch_.path() / "merged", model = scratch_.path() / "exported";
  const Finished merge =
      strata({"merge", adapter(), "--weights", "1", "--shrink", "-o", merged, "--rank-pattern"});
  ASSERT_EQ(merge.status, 0) << merge.err;
  EXPECT_THAT(merge.out, HasSubstr("shrinkage: kept "));
  EXPECT_NEAR(evaluated({"--adapter", merged}).at("loss").get<double>(), loss, 1e-5);
  const Finished exported = strata({"export", "--model", federation_.model(), "--adapter",
                                    adapter(), "--shrink", "-o", model, "--format", "json"});
  ASSERT_EQ(exported.status, 0) << exported.err;
  EXPECT_EQ(json::parse(exported.out).at("data").at("shrinkage").at(0), shrunk.at("shrinkage"));
  const Finished whole =
      strata({"eval", "--model", model, "--data", federation_.a(), "--format", "json"});
  ASSERT_EQ(whole.status, 0) << whole.err;
  const json beside = json::parse(strata({"eval", "--model", federation_.model(), "--data",
                                          federation_.a(), "--adapter", merged, "--format", "json"})
                                      .out);
  EXPECT_NEAR(json::parse(whole.out).at("data").at("loss").get<double>(),
              beside.at("data").at("loss").get<double>(), 1e-5);
}

TEST_F(Shrinking, RefusesNoiseOfUnknownSize) {
  job()["adapter"]["method"] = "lora";
  expect_refused("adapter.method: trains A and B both");
  job()["adapter"]["method"] = "seeded-a";
  job()["training"]["optimizer"] = "adamw";
  expect_refused("training.optimizer: is \"adamw\"");
  job()["training"]["optimizer"] = "sgd";
  job()["training"]["momentum"] = 0.5;
  expect_refused("training.momentum: is 0.5");
  job()["training"].erase("momentum");
  job()["training"]["weight_decay"] = 0.1;
  expect_refused("training.weight_decay: is 0.1");
  job()["training"].erase("weight_decay");
  job()["privacy"]["noise"]["multiplier"] = 20.0;
  job()["privacy"]["clip"] = {{"kind", "adaptive"}, {"C", 0.5}, {"sigma_b", 30.0}};
  expect_refused("privacy.clip.kind: is \"adaptive\"");
  job()["privacy"] = {{"mode", "none"}};
  expect_refused("the run was not private");
}

TEST_F(Shrinking, RefusesWhatIsNotTheRunsAdapter) {
  EXPECT_EQ(eval({"--shrink"}).status, 2);
  EXPECT_EQ(
      strata({"export", "--model", federation_.model(), "--shrink", "-o", scratch_.path() / "x"})
          .status,
      2);
  run();
  // By itself.
  fs::copy(adapter(), scratch_.path() / "alone", fs::copy_options::recursive);
  const Finished alone = eval({"--adapter", scratch_.path() / "alone", "--shrink"});
  EXPECT_EQ(alone.status, 7);
  EXPECT_THAT(alone.err, HasSubstr("privacy.json: does not exist"));
  // A folder whose name ends in a slash is the same folder.
  EXPECT_EQ(eval({"--adapter", adapter().string() + "/", "--shrink"}).status, 0);
  // One that was changed since.
  const fs::path tensors = adapter() / "adapter_model.safetensors";
  const std::string whole = support::read_file(tensors);
  std::string changed = whole;
  changed.back() = static_cast<char>(changed.back() ^ 1);
  support::write_file(tensors, changed);
  const Finished other = eval({"--adapter", adapter(), "--shrink"});
  EXPECT_EQ(other.status, 7);
  EXPECT_THAT(other.err, HasSubstr("manifest"));
  support::write_file(tensors, whole);
  // By another seed and rank the noise would be elsewhere; by another multiplier, larger.
  json config = json::parse(support::read_file(federation_.out() / "config.json"));
  const std::string right = config.dump();
  config["adapter"]["rank"] = 1;
  for (auto& client : config["clients"]) client["adapter"]["rank"] = 1;
  config["training"]["seed"] = 99;
  support::write_file(federation_.out() / "config.json", config.dump());
  EXPECT_THAT(eval({"--adapter", adapter(), "--shrink"}).err,
              HasSubstr("lies where the run has no noise"));
  support::write_file(federation_.out() / "config.json", right);
  json statement = json::parse(support::read_file(federation_.out() / "privacy.json"));
  statement["noise_multiplier"] = 2000.0;
  support::write_file(federation_.out() / "privacy.json", statement.dump());
  EXPECT_THAT(eval({"--adapter", adapter(), "--shrink"}).err,
              HasSubstr("of the energy that the run's noise alone has"));
}

}  // namespace
}  // namespace strata::cli

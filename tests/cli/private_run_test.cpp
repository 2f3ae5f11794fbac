// A private run from the outside: what it promises, what it charges, what it tells, and what its
// data owner refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "cli/federation.h"
#include "export/peft.h"

namespace strata::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

class PrivateRun : public testing::Test {
 protected:
  PrivateRun() {
    federation_.job["training"] = {{"local_steps", 2}, {"learning_rate", 0.001}};
    federation_.job["aggregation"]["rounds"] = 2;
    federation_.job["privacy"] = {{"mode", "example_dpsgd"},
                                  {"budget", {{"epsilon", 8.0}, {"delta", 1e-3}}},
                                  {"sampling", {{"q", 0.5}}},
                                  {"batch_divisor", 1},
                                  {"ledger", {{"path", "ledger"}, {"lock_service", "the test"}}}};
  }

  Finished run(const std::vector<std::string>& more = {}) {
    support::write_file(federation_.folder / "job.json", federation_.job.dump(1));
    fs::remove_all(federation_.out());
    return strata(federation_.run_args(more));
  }
  json read(const std::string& file) {
    return json::parse(support::read_file(federation_.out() / file));
  }
  json& privacy() { return federation_.job["privacy"]; }
  void policy(const json& rules) const {
    fs::create_directories(federation_.folder / "ledger");
    support::write_file(federation_.folder / "ledger" / "policy.json", rules.dump());
  }
  // Begins a ledger in a folder that is there already.
  void begin_ledger() const {
    ASSERT_EQ(strata({"privacy", "ledger", "init", "--new-dataset", "--any-file-system", "--ledger",
                      federation_.folder / "ledger"})
                  .status,
              0);
  }
  json spent() const {
    const auto shown = strata({"privacy", "ledger", "show", "--any-file-system", "--ledger",
                               federation_.folder / "ledger", "--format", "json"});
    EXPECT_EQ(shown.status, 0) << shown.err;
    return json::parse(shown.out).at("data").at("datasets");
  }

  support::ScratchFolder scratch_;
  Federation federation_{scratch_.path()};
};

TEST_F(PrivateRun, SaysWhatItPromisesInPrintAndInTheFolder) {
  const auto done = run();
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_THAT(done.out, Not(HasSubstr("tokens")));
  EXPECT_THAT(done.out, HasSubstr("unit example, add_remove, against everyone, the coordinator "
                                  "included: epsilon "));
  const json statement = read("privacy.json");
  EXPECT_EQ(statement.at("private"), true);
  EXPECT_LE(statement.at("epsilon").get<double>(), 8.0);
  EXPECT_GT(statement.at("epsilon").get<double>(), 7.9);
  EXPECT_EQ(statement.at("releases"), (json{{"per_round", 2}, {"rounds", 2}}));
}

TEST_F(PrivateRun, TellsNothingThatDependsOnTheRecords) {
  ASSERT_EQ(run().status, 0);
  EXPECT_EQ(read("data.json").at("clients"), json::array());
  std::istringstream lines(support::read_file(federation_.out() / "metrics.jsonl"));
  std::size_t steps = 0, rounds = 0;
  for (std::string line; std::getline(lines, line);) {
    const json event = json::parse(line);
    if (event.at("event") == "step") {
      ++steps;
      for (const char* key : {"loss", "grad_norm", "tokens", "tokens_per_second"})
        EXPECT_FALSE(event.contains(key)) << line;
    }
    if (event.at("event") == "client_round") {
      ++rounds;
      EXPECT_TRUE(event.at("loss_before").is_null()) << line;
      EXPECT_TRUE(event.at("loss_after").is_null()) << line;
      EXPECT_EQ(event.at("tokens"), 0) << line;
      EXPECT_EQ(event.at("seconds"), 0.0) << line;
    }
  }
  EXPECT_EQ(steps, 8u);
  EXPECT_EQ(rounds, 4u);
}

// A gradient is of the records as they are: neither told nor worked out.
TEST_F(PrivateRun, DiagnosticsLookAtNoGradient) {
  federation_.job["aggregation"]["diagnostics"] = true;
  federation_.job["evaluation"] = {{"data", "b.jsonl"}};
  privacy()["metrics"] = {{"eval", "public_data"}};
  for (const char* mode : {"example_dpsgd", "client_local"}) {
    if (std::string(mode) == "client_local") {
      federation_.job["privacy"] = {
          {"mode", mode},
          {"unit", {{"kind", "client"}}},
          {"adjacency", "replace_one"},
          {"budget", {{"epsilon", 8.0}, {"delta", 1e-5}}},
          {"metrics", {{"eval", "public_data"}}},
          {"ledger", {{"path", "ledger-2"}, {"lock_service", "the test"}}}};
    }
    const Finished done = run();
    ASSERT_EQ(done.status, 0) << done.err;
    EXPECT_TRUE(events(federation_.out(), "gradient").empty()) << mode;
    const auto tensors = events(federation_.out(), "tensor");
    EXPECT_FALSE(tensors.empty()) << mode;
    for (const auto& event : tensors) {
      for (const char* key : {"gradient_norm", "gradient_cosine", "descent"})
        EXPECT_FALSE(event.contains(key)) << mode << " " << event;
    }
  }
}

TEST_F(PrivateRun, DrawsOtherNoiseEachTime) {
  const auto hash = [&] { return read("manifest.json").at("final_model_hash").get<std::string>(); };
  ASSERT_EQ(run().status, 0);
  const std::string first = hash();
  ASSERT_EQ(run().status, 0);
  EXPECT_NE(hash(), first);
}

// The mean of n clients' noise has a deviation of one client's over the root of n: nobody takes the
// number of clients for a reason to add less.
TEST_F(PrivateRun, NoiseDoesNotDependOnTheNumberOfClients) {
  constexpr double kMultiplier = 30.0, kDivisor = 7.0, kNorm = 0.5;
  constexpr int kRuns = 12;
  federation_.job["adapter"] = {
      {"method", "seeded-a"}, {"rank", 12}, {"alpha", 12}, {"targets", {"all-linear"}}};
  federation_.job["training"] = {{"local_steps", 1}, {"optimizer", "sgd"}, {"learning_rate", 1.0}};
  federation_.job["aggregation"]["rounds"] = 1;
  privacy()["budget"] = {{"delta", 1e-5}};
  privacy()["noise"] = {{"multiplier", kMultiplier}};
  privacy()["sampling"] = {{"scheme", "full"}};
  privacy()["clip"] = {{"kind", "flat"}, {"C", kNorm}};
  privacy()["batch_divisor"] = kDivisor;
  const json everyone = federation_.job["clients"];
  const auto disk = sys::make_posix_disk();
  for (std::size_t clients = 1; clients <= everyone.size(); ++clients) {
    federation_.job["clients"] =
        json(everyone.begin(), everyone.begin() + static_cast<int>(clients));
    double squares = 0.0, count = 0.0;
    for (int i = 0; i < kRuns; ++i) {
      const auto done = run();
      ASSERT_EQ(done.status, 0) << done.err;
      const auto adapter = exporting::read_peft(*disk, federation_.out() / "adapter").value();
      for (const auto& [module, pair] : adapter.modules) {
        for (const float value : pair.b.values())
          squares += std::pow(double{value} * pair.scale, 2);
        count += static_cast<double>(pair.b.values().size());
      }
    }
    const double due = kMultiplier * kNorm / kDivisor / std::sqrt(static_cast<double>(clients));
    EXPECT_GT(count, 7e4);
    EXPECT_NEAR(std::sqrt(squares / count) / due, 1.0, 4.9 / std::sqrt(2.0 * count)) << clients;
  }
}

TEST_F(PrivateRun, RunsOnTheSameRecordsAddUp) {
  ASSERT_EQ(run().status, 0);
  const json once = spent();
  ASSERT_EQ(once.size(), 2u);
  EXPECT_EQ(once[0].at("rounds_charged"), 2);
  EXPECT_EQ(once[0].at("rounds_released"), 2);
  const double first = once[0].at("epsilon");
  ASSERT_EQ(run().status, 0);
  const double second = spent()[0].at("epsilon");
  EXPECT_GT(second, first + 1.0);
}

// Steps are charged; merges, in clients or at the coordinator, are post-processing.
TEST_F(PrivateRun, HeadsThatMergeChargeTheirStepsAlone) {
  federation_.job["training"]["local_steps"] = 4;
  const auto epsilons = [&] {
    EXPECT_EQ(run().status, 0);
    const json statement = read("privacy.json");
    EXPECT_EQ(statement.at("releases"), (json{{"per_round", 4}, {"rounds", 2}}));
    std::vector<double> out{statement.at("epsilon"), statement.at("noise_multiplier")};
    for (const auto& client : spent()) {
      EXPECT_EQ(client.at("rounds_charged"), 2);
      EXPECT_EQ(client.at("rounds_released"), 2);
      out.push_back(client.at("epsilon"));
    }
    fs::remove_all(federation_.folder / "ledger");
    return out;
  };
  const auto stacking = epsilons();
  ASSERT_EQ(stacking.size(), 4u);
  federation_.job["adapter"]["method"] = "lte";
  federation_.job["adapter"]["heads"] = 2;
  federation_.job["aggregation"]["method"] = "lte";
  for (const auto& merge_every : {json(1), json(2), json("round")}) {
    federation_.job["training"]["merge_every"] = merge_every;
    EXPECT_EQ(epsilons(), stacking) << merge_every;
  }
  // And a spent owner's ledger refuses them as it refuses stacking.
  privacy()["ledger"]["lifetime_epsilon"] = 9.0;
  privacy()["ledger"]["lifetime_delta"] = 1e-3;
  ASSERT_EQ(run().status, 0);
  const auto refused = run();
  EXPECT_EQ(refused.status, 4) << refused.err;
  EXPECT_THAT(refused.err, HasSubstr("dataset anna would reach eps"));
}

TEST_F(PrivateRun, RefusesTheRoundThatWouldOverspend) {
  privacy()["ledger"]["lifetime_epsilon"] = 9.0;
  privacy()["ledger"]["lifetime_delta"] = 1e-3;
  ASSERT_EQ(run().status, 0);
  const auto refused = run();
  EXPECT_EQ(refused.status, 4) << refused.err;
  EXPECT_THAT(refused.err, HasSubstr("E_BUDGET"));
  EXPECT_THAT(refused.err, HasSubstr("dataset anna would reach eps"));
  EXPECT_THAT(refused.err, HasSubstr("> cap 9"));
  EXPECT_THAT(refused.err, HasSubstr("rounds fit"));
}

TEST_F(PrivateRun, TheBudgetMayBeForAllRunsTogether) {
  privacy()["budget"]["scope"] = "dataset_lifetime";
  ASSERT_EQ(run().status, 0);
  EXPECT_EQ(run().status, 4);
}

TEST_F(PrivateRun, ASpentClientIsLeftOutAndTheOthersGoOn) {
  ASSERT_EQ(run().status, 0);  // both spend
  privacy()["budget"]["scope"] = "dataset_lifetime";
  support::write_file(federation_.b(), R"({"text":"quite"})"
                                       "\n"
                                       R"({"text":"other"})"
                                       "\n");
  federation_.job["clients"][1]["name"] = "carla";  // with records that nobody has used
  const auto done = run();
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_THAT(done.out, HasSubstr("left out: round 1: client anna: REFUSED_BUDGET"));
  EXPECT_THAT(done.err, HasSubstr("dataset anna would reach eps"));
}

TEST_F(PrivateRun, RecordsUnderAnotherNameKeepTheirPast) {
  ASSERT_EQ(run().status, 0);
  federation_.job["clients"][0]["name"] = "zoe";
  const auto renamed = run();
  EXPECT_EQ(renamed.status, 4) << renamed.err;
  EXPECT_THAT(renamed.err, HasSubstr("dataset zoe has rows of dataset anna"));
}

TEST_F(PrivateRun, ALostLedgerIsNotBegunAnewBehindItsOwnersBack) {
  ASSERT_EQ(run().status, 0);
  fs::remove(federation_.folder / "ledger" / "ledger.jsonl");
  const auto lost = run();
  EXPECT_NE(lost.status, 0);
  EXPECT_THAT(lost.err, HasSubstr("there is no ledger"));
}

TEST_F(PrivateRun, TheOwnersPolicyWins) {
  policy({{"max_epsilon", 4}});
  begin_ledger();
  auto done = run();
  EXPECT_EQ(done.status, 4);
  EXPECT_THAT(done.err, HasSubstr("policy.json: max_epsilon: the run comes to epsilon 7.9"));
  policy({{"modes", {"example_dpsgd"}}, {"units", {"user"}}});
  EXPECT_THAT(run().err, HasSubstr("policy.json: units: the job's privacy.unit.kind is"));
  federation_.job["privacy"]["mode"] = "none";
  done = run();
  EXPECT_EQ(done.status, 4);
  EXPECT_THAT(done.err, HasSubstr("policy.json: modes: the job's privacy.mode is \"none\""));
}

TEST_F(PrivateRun, SeededNoiseIsMarkedEverywhereAndChargesNothing) {
  privacy()["test_mode"] = {{"seeded_noise", true}};
  EXPECT_EQ(run().status, 3);
  privacy()["test_mode"]["i_understand"] = true;
  const auto done = run();
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_THAT(done.out, HasSubstr("PRIVATE=NO"));
  EXPECT_EQ(read("privacy.json").at("PRIVATE"), "NO");
  EXPECT_TRUE(read("privacy.json").at("epsilon").is_null());
  EXPECT_FALSE(fs::exists(federation_.folder / "ledger"));
  const std::string first = read("manifest.json").at("final_model_hash");
  ASSERT_EQ(run().status, 0);
  EXPECT_EQ(read("manifest.json").at("final_model_hash"), first);
}

// Whoever leaves something out, or says two things at once, hears which key.
TEST_F(PrivateRun, RefusesWhatDoesNotGoTogether) {
  struct Case {
    const char* patch;
    const char* says;
  };
  const json good = federation_.job;
  for (const Case& c : std::initializer_list<Case>{
           {R"({"privacy": null})", "privacy: is missing"},
           {R"({"privacy": {"mode": null}})", "privacy.mode: is missing"},
           {R"({"privacy": {"budget": {"delta": null}}})", "privacy.budget.delta: is missing"},
           {R"({"privacy": {"budget": {"epsilon": null}}})", "privacy.budget.epsilon: is missing"},
           {R"({"privacy": {"budget": {"epsilon": 51}}})", "privacy.budget.epsilon: is 51"},
           {R"({"privacy": {"sampling": {"q": null}}})", "privacy.sampling.q: is missing"},
           {R"({"privacy": {"sampling": {"scheme": "full"}}})", "it has no q"},
           {R"({"privacy": {"sampling": {"scheme": "shuffle"}}})", "privacy.sampling.scheme: is"},
           {R"({"privacy": {"batch_divisor": null}})", "privacy.batch_divisor: is missing"},
           {R"({"privacy": {"unit": {"kind": "user"}}})", "privacy.unit.key: is missing"},
           {R"({"privacy": {"unit": {"kind": "client"}}})", "privacy.unit.kind: is \"client\""},
           {R"({"privacy": {"mode": "client_central", "unit": {"kind": "client"},
                "sampling": null, "batch_divisor": null, "weights": {"denominator": 2}}})",
            "stacking shows each client's part"},
           {R"({"privacy": {"mode": "client_local", "unit": {"kind": "client"},
                "sampling": null}})",
            "privacy.adjacency: is \"add_remove\""},
           {R"({"privacy": {"mode": "client_local", "unit": {"kind": "client"}, "sampling": null,
                "adjacency": "replace_one", "steps": {"local_per_round": 2}}})",
            "privacy.steps.local_per_round: is 2"},
           {R"({"privacy": {"clip": {"gamma": 0.5}}})", "privacy.clip.gamma: is given"},
           {R"({"privacy": {"clip": {"kind": "adaptive"}}})", "privacy.clip.sigma_b: is missing"},
           {R"({"privacy": {"clip": {"kind": "adaptive", "sigma_b": 0.01}}})",
            "privacy.clip.sigma_b"},
           {R"({"privacy": {"adjacency": "replace_one", "accountant": {"kind": "rdp"}}})",
            "\"pld\""},
           {R"({"privacy": {"noise": {"multiplier": 0.4}}})", "privacy.noise.multiplier: is 0.4"},
           {R"({"privacy": {"weights": {"kind": "public"}}})",
            "privacy.weights.values: is missing"},
           {R"({"clients": [{"name": "anna", "data": "a.jsonl", "weight": 3}]})", "uniform"},
           {R"({"privacy": {"steps": {"rounds": 7}}})", "aggregation.rounds is 2"},
           {R"({"training": {"local_steps": 0}})", "privacy.steps.local_per_round: is missing"},
           {R"({"training": {"max_steps": 9}})", "training.max_steps: is 9"},
           {R"({"evaluation": {"data": "b.jsonl"}})", "privacy.metrics.eval: is \"off\""},
           {R"({"data": {"held_out_fraction": 0.5}})", "data.held_out_fraction: is 0.5"},
           {R"({"privacy": {"metrics": {"train_loss": "noised"}}})", "privacy.metrics.train_loss"},
           {R"({"privacy": {"secagg": {"enabled": true}}})", "privacy.secagg.enabled: is true"},
           {R"({"privacy": {"amplification": {"clients": true}}})",
            "privacy.amplification.clients"},
           {R"({"privacy": {"epsilon": 3}})", "privacy.epsilon: is not a known key"},
           {R"({"adapter": {"method": "full"}})", "clients[0].adapter.method: is \"full\""},
           {R"({"privacy": {"mode": "client_central", "unit": {"kind": "client"},
                "sampling": null, "batch_divisor": null, "weights": {"denominator": 2}}})",
            "aggregation.method: is \"flora\""}}) {
    federation_.job = good;
    federation_.job.merge_patch(json::parse(c.patch));
    const auto done = run();
    EXPECT_EQ(done.status, 3) << c.patch << "\n" << done.err;
    EXPECT_THAT(done.err, HasSubstr(c.says)) << c.patch;
    EXPECT_FALSE(fs::exists(federation_.folder / "ledger")) << c.patch;
  }
}

TEST_F(PrivateRun, UsersAreNamedByTheirKey) {
  privacy()["unit"] = {{"kind", "user"}, {"key", "who"}};
  EXPECT_EQ(run().status, 7);  // the records have no such key
  support::write_file(federation_.a(), R"({"text":"one","who":"x"})"
                                       "\n"
                                       R"({"text":"two","who":"x"})"
                                       "\n");
  support::write_file(federation_.b(), R"({"text":"six","who":"y"})"
                                       "\n");
  const auto done = run();
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_EQ(read("privacy.json").at("unit"), "user by who");
}

// One noisy release a round, whatever the client's steps; charged as such, against any other data.
TEST_F(PrivateRun, AWholeClientMayBeTheUnit) {
  federation_.job["training"] = {{"local_epochs", 2}, {"batch_size", 1}, {"learning_rate", 0.001}};
  privacy() = {{"mode", "client_local"},
               {"unit", {{"kind", "client"}}},
               {"adjacency", "replace_one"},
               {"budget", {{"epsilon", 8.0}, {"delta", 1e-5}}},
               {"ledger", {{"path", "ledger"}, {"lock_service", "the test"}}}};
  const auto done = run();
  ASSERT_EQ(done.status, 0) << done.err;
  const json statement = read("privacy.json");
  EXPECT_EQ(statement.at("unit"), "client");
  EXPECT_EQ(statement.at("releases"), (json{{"per_round", 1}, {"rounds", 2}}));
  EXPECT_LE(statement.at("epsilon").get<double>(), 8.0);
  // Two updates are up to 2 C apart: twice the noise of a sum that a unit is in or not.
  const double found = statement.at("noise_multiplier").get<double>();
  const auto single = strata({"privacy", "calibrate", "--epsilon", "8", "--delta", "0.99e-5",
                              "--sampling-rate", "1", "--steps", "2", "--format", "json"});
  const double half = json::parse(single.out).at("data").at("noise_multiplier").get<double>();
  EXPECT_NEAR(found / half, 2.0, 1e-3);
  EXPECT_THAT(support::read_file(federation_.out() / "metrics.jsonl"), Not(HasSubstr("\"step\"")));
  for (const auto& dataset : spent()) EXPECT_EQ(dataset.at("rounds_charged"), 2) << dataset;
}

TEST_F(PrivateRun, DeltaIsBelowOneOverTheUnits) {
  std::string many;
  for (int i = 0; i < 1100; ++i) many += R"({"text":"word )" + std::to_string(i) + "\"}\n";
  support::write_file(federation_.a(), many);
  const auto done = run();
  EXPECT_EQ(done.status, 3);
  EXPECT_THAT(done.err, HasSubstr("privacy.budget.delta: is too large"));
  EXPECT_THAT(done.err, Not(HasSubstr("1100")));
}

}  // namespace
}  // namespace strata::cli

// Runs whose coordinator hides whole clients from everybody else: what is released, what is told,
// what is charged, and what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "cli/federation.h"
#include "export/peft.h"

namespace strata::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr double kNorm = 0.5;

class CentralRun : public testing::Test {
 protected:
  CentralRun() {
    federation_.job["training"] = {
        {"local_steps", 1}, {"optimizer", "sgd"}, {"learning_rate", 0.1}};
    federation_.job["aggregation"]["rounds"] = 2;
    federation_.job["adapter"]["method"] = "seeded-a";
    privacy() = {{"mode", "client_central"},
                 {"unit", {{"kind", "client"}}},
                 {"budget", {{"epsilon", 8.0}, {"delta", 1e-5}}},
                 {"clip", {{"C", kNorm}}},
                 {"weights", {{"denominator", 4.0}}},
                 {"ledger", {{"path", "ledger"}, {"lock_service", "the test"}}}};
  }

  Finished run(const std::vector<std::string>& more = {}) const {
    support::write_file(federation_.folder / "job.json", federation_.job.dump(1));
    fs::remove_all(federation_.out());
    return strata(federation_.run_args(more));
  }
  Finished plan(const std::vector<std::string>& more = {}) const {
    support::write_file(federation_.folder / "job.json", federation_.job.dump(1));
    std::vector<std::string> args{"privacy", "plan", federation_.folder / "job.json"};
    args.insert(args.end(), more.begin(), more.end());
    return strata(args);
  }
  double planned_multiplier() const {
    const auto shown = plan({"--format", "json"});
    EXPECT_EQ(shown.status, 0) << shown.err;
    return json::parse(shown.out).at("data").at("noise_multiplier");
  }
  json read(const std::string& file) {
    return json::parse(support::read_file(federation_.out() / file));
  }
  json& privacy() { return federation_.job["privacy"]; }
  // As good as no noise, the same in each run.
  void without_noise() {
    privacy()["budget"] = {{"delta", 1e-5}};
    privacy()["noise"] = {{"multiplier", 1e-6}};
    privacy()["test_mode"] = {{"seeded_noise", true}, {"i_understand", true}};
  }
  json spent() const {
    const auto shown = strata({"privacy", "ledger", "show", "--any-file-system", "--ledger",
                               federation_.folder / "ledger", "--format", "json"});
    EXPECT_EQ(shown.status, 0) << shown.err;
    return json::parse(shown.out).at("data").at("datasets");
  }

  struct Released {
    double squares = 0.0;
    double count = 0.0;
    [[nodiscard]] double norm() const { return std::sqrt(squares); }
  };
  // B of what all rounds came to, its scale inside.
  Released released() {
    const auto disk = sys::make_posix_disk();
    Released out;
    const auto adapter = exporting::read_peft(*disk, federation_.out() / "adapter").value();
    for (const auto& [module, pair] : adapter.modules) {
      for (const float value : pair.b.values())
        out.squares += std::pow(double{value} * pair.scale, 2);
      out.count += static_cast<double>(pair.b.values().size());
    }
    return out;
  }

  support::ScratchFolder scratch_;
  Federation federation_{scratch_.path()};
};

TEST_F(CentralRun, SaysWhatItPromisesAndToWhom) {
  const auto done = run();
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_THAT(done.out, HasSubstr("unit client, add_remove, against recipients and other clients, "
                                  "not the coordinator: epsilon "));
  const json statement = read("privacy.json");
  EXPECT_EQ(statement.at("mode"), "client_central");
  EXPECT_EQ(statement.at("private"), true);
  EXPECT_EQ(statement.at("unit"), "client");
  EXPECT_EQ(statement.at("adversary"), "recipients and other clients, not the coordinator");
  EXPECT_EQ(statement.at("releases"), (json{{"per_round", 1}, {"rounds", 2}}));
  EXPECT_EQ(statement.at("weights"), (json{{"largest", 1.0}, {"denominator", 4.0}}));
  EXPECT_LE(statement.at("epsilon").get<double>(), 8.0);
  EXPECT_GT(statement.at("epsilon").get<double>(), 7.9);
}

// Whoever gets the folder's adapters and manifest learns nothing of single clients; nobody learns
// what their records said.
TEST_F(CentralRun, TellsNothingOfSingleClients) {
  ASSERT_EQ(run().status, 0);
  for (const char* round : {"rounds/0001/strata.json", "rounds/0002/strata.json"}) {
    const json facts = read(round);
    for (const char* key : {"clients", "weights", "relative_error", "factor_averaging_error"})
      EXPECT_FALSE(facts.contains(key)) << key;
  }
  EXPECT_EQ(read("manifest.json").at("refused"), json::array());
  EXPECT_EQ(read("data.json").at("clients"), json::array());
  std::istringstream lines(support::read_file(federation_.out() / "metrics.jsonl"));
  std::size_t rounds = 0;
  for (std::string line; std::getline(lines, line);) {
    const json event = json::parse(line);
    EXPECT_NE(event.at("event"), "step");
    EXPECT_FALSE(event.contains("update_norm")) << line;
    EXPECT_FALSE(event.contains("relative_error")) << line;
    if (event.at("event") != "client_round") continue;
    ++rounds;
    EXPECT_TRUE(event.at("loss_before").is_null()) << line;
    EXPECT_TRUE(event.at("loss_after").is_null()) << line;
    EXPECT_EQ(event.at("tokens"), 0) << line;
    EXPECT_EQ(event.at("seconds"), 0.0) << line;
  }
  EXPECT_EQ(rounds, 4u);
}

// The frozen A of an adapter that is given stays what it was in every round.
TEST_F(CentralRun, AFrozenAThatIsGivenStays) {
  without_noise();
  const fs::path given = golden_model("llama") / "adapter";
  federation_.job["adapter"]["method"] = "ffa";
  federation_.job["adapter"]["init"] = given;
  federation_.job["aggregation"] = {{"method", "fedavg"}, {"rounds", 3}};
  const auto done = run();
  ASSERT_EQ(done.status, 0) << done.err;
  const auto disk = sys::make_posix_disk();
  const auto before = exporting::read_peft(*disk, given).value();
  const auto after = exporting::read_peft(*disk, federation_.out() / "adapter").value();
  ASSERT_EQ(after.modules.size(), before.modules.size());
  for (const auto& [module, pair] : before.modules) {
    const auto& now = after.modules.at(module).a;
    ASSERT_EQ(now.size(), pair.a.size());
    for (std::size_t i = 0; i < now.size(); ++i)
      ASSERT_NEAR(now.values()[i], pair.a.values()[i], 1e-6) << module;
  }
}

// w_max C z / W, whatever the clients weigh and however many they are.
TEST_F(CentralRun, ReleasesTheNoiseOfThePlan) {
  constexpr double kMultiplier = 30.0, kDenominator = 7.0;
  constexpr int kRuns = 4;
  federation_.job["adapter"] = {
      {"method", "seeded-a"}, {"rank", 12}, {"alpha", 12}, {"targets", {"all-linear"}}};
  federation_.job["training"]["learning_rate"] = 1e-12;
  federation_.job["aggregation"]["rounds"] = 1;
  privacy()["budget"] = {{"delta", 1e-5}};
  privacy()["noise"] = {{"multiplier", kMultiplier}};
  privacy()["weights"] = {{"kind", "public"},
                          {"values", {{"anna", 0.5}, {"berta", 2.0}}},
                          {"denominator", kDenominator}};
  Released all;
  for (int i = 0; i < kRuns; ++i) {
    const auto done = run();
    ASSERT_EQ(done.status, 0) << done.err;
    const auto one = released();
    all.squares += one.squares;
    all.count += one.count;
  }
  const double due = 2.0 * kNorm * kMultiplier / kDenominator;
  EXPECT_GT(all.count, 2e4);
  EXPECT_NEAR(std::sqrt(all.squares / all.count) / due, 1.0, 4.9 / std::sqrt(2.0 * all.count));
}

TEST_F(CentralRun, ClipsWhateverAClientSends) {
  without_noise();
  federation_.job["aggregation"]["rounds"] = 1;
  federation_.job["training"] = {{"local_steps", 1}, {"learning_rate", 1.0}};  // by Adam
  ASSERT_EQ(run().status, 0);
  const double both = released().norm();
  EXPECT_LE(both, 2 * kNorm / 4.0 + 1e-3);
  EXPECT_GT(both, 0.5 * kNorm / 4.0);
  // The same divisor for one client, which fills the bound by itself.
  federation_.job["clients"].erase(1);
  ASSERT_EQ(run().status, 0);
  EXPECT_NEAR(released().norm(), kNorm / 4.0, 1e-3);
}

// Sums of factors that all clients begin with, and of whole tensors; the same bytes each time where
// the noise is seeded.
TEST_F(CentralRun, TakesWhatEntersASum) {
  struct Case {
    const char* patch = nullptr;
    bool again = false;
  };
  privacy()["test_mode"] = {{"seeded_noise", true}, {"i_understand", true}};
  const json good = federation_.job;
  std::set<std::string> models;
  for (const Case& c : std::initializer_list<Case>{
           {"{}", true},
           {R"({"aggregation": {"encoding": "bf16"}})"},
           {R"({"adapter": {"method": "ffa"}})"},
           {R"({"adapter": {"method": "ffa"}, "aggregation": {"method": "fedavg"}})"},
           {R"({"adapter": {"method": "lora"}, "aggregation": {"method": "fedavg"}})"},
           {R"({"adapter": {"method": "lora"}, "aggregation": {"method": "zero_pad"},
                "clients": [{"name": "anna", "data": "a.jsonl"},
                            {"name": "berta", "data": "b.jsonl", "adapter": {"rank": 3}}]})",
            true},
           {R"({"adapter": {"method": "full"}})"},
           {R"({"adapter": {"method": "full"}, "aggregation": {"method": "fedavg"}})"}}) {
    federation_.job = good;
    federation_.job.merge_patch(json::parse(c.patch));
    const auto done = run();
    ASSERT_EQ(done.status, 0) << c.patch << "\n" << done.err;
    EXPECT_THAT(done.out, HasSubstr("PRIVATE=NO"));
    const std::string model = read("manifest.json").at("final_model_hash");
    models.insert(model);
    if (!c.again) continue;
    ASSERT_EQ(run().status, 0);
    EXPECT_EQ(read("manifest.json").at("final_model_hash"), model) << c.patch;
  }
  EXPECT_GE(models.size(), 6u);
  EXPECT_FALSE(fs::exists(federation_.folder / "ledger"));
}

TEST_F(CentralRun, DrawsOtherNoiseEachTimeAndChargesForIt) {
  const auto hash = [&] { return read("manifest.json").at("final_model_hash").get<std::string>(); };
  ASSERT_EQ(run().status, 0);
  const std::string first = hash();
  json known = spent();
  ASSERT_EQ(known.size(), 1u);
  EXPECT_EQ(known[0].at("name"), "federation/run");
  EXPECT_EQ(known[0].at("rounds_charged"), 2);
  EXPECT_EQ(known[0].at("rounds_released"), 2);
  const double once = known[0].at("epsilon");
  ASSERT_EQ(run().status, 0);
  EXPECT_NE(hash(), first);
  EXPECT_GT(spent()[0].at("epsilon").get<double>(), once + 1.0);
}

// Clients that were in another federation of this coordinator bring along what they have been
// through, or stay away.
TEST_F(CentralRun, ClientsOfAnotherFederationKeepTheirPast) {
  ASSERT_EQ(run().status, 0);
  federation_.job["name"] = "autumn";
  const auto renamed = run();
  EXPECT_EQ(renamed.status, 4) << renamed.err;
  EXPECT_THAT(renamed.err,
              HasSubstr("dataset federation/autumn has rows of dataset federation/run"));
}

TEST_F(CentralRun, RefusesTheRoundThatWouldOverspendAndKeepsThoseBefore) {
  privacy()["budget"] = {{"delta", 1e-5}};
  privacy()["noise"] = {{"multiplier", 2.0}};
  federation_.job["aggregation"]["rounds"] = 1;
  ASSERT_EQ(run().status, 0);
  const double one = spent()[0].at("epsilon");
  support::write_file(federation_.folder / "ledger" / "policy.json",
                      json{{"lifetime_epsilon", 1.6 * one}, {"lifetime_delta", 1e-5}}.dump());
  federation_.job["aggregation"]["rounds"] = 3;
  const auto refused = run();
  EXPECT_EQ(refused.status, 4) << refused.err;
  EXPECT_THAT(refused.err, HasSubstr("dataset federation/run would reach eps"));
  EXPECT_THAT(refused.err, HasSubstr("after round 2"));
  EXPECT_THAT(refused.err, HasSubstr("1 round fits"));
  EXPECT_TRUE(fs::exists(federation_.out() / "rounds" / "0001"));
  EXPECT_FALSE(fs::exists(federation_.out() / "rounds" / "0002"));
  EXPECT_EQ(spent()[0].at("rounds_charged"), 2);
  // The same command comes to the same refusal, and charges nothing.
  EXPECT_EQ(strata(federation_.run_args()).status, 4);
  EXPECT_EQ(spent()[0].at("rounds_charged"), 2);
}

TEST_F(CentralRun, AnOwnersPolicyMayForbidIt) {
  fs::create_directories(federation_.folder / "ledger");
  support::write_file(federation_.folder / "ledger" / "policy.json",
                      json{{"modes", {"example_dpsgd"}}}.dump());
  const auto refused = run();
  EXPECT_EQ(refused.status, 4);
  EXPECT_THAT(refused.err,
              HasSubstr("policy.json: modes: the job's privacy.mode is \"client_central\""));
}

TEST_F(CentralRun, ReplayComparesAndSaysThatNoiseIsNotKept) {
  federation_.job["output"]["keep_updates"] = true;
  ASSERT_EQ(run().status, 0);
  const auto replayed = strata({"replay", federation_.out()});
  ASSERT_EQ(replayed.status, 0) << replayed.err;
  EXPECT_THAT(replayed.out, HasSubstr("noise is kept nowhere"));
  EXPECT_THAT(replayed.out, HasSubstr("as journaled"));
  const fs::path updates = federation_.out() / "state" / "updates" / "0002";
  std::string bytes = support::read_file(updates);
  bytes[bytes.size() - 20] ^= 1;
  support::write_file(updates, bytes);
  EXPECT_EQ(strata({"replay", federation_.out()}).status, 8);
  EXPECT_EQ(strata({"replay", federation_.out(), "--round", "1"}).status, 0);
  const fs::path result = federation_.out() / "state" / "results" / "0001";
  bytes = support::read_file(result);
  bytes[bytes.size() / 2] ^= 1;
  support::write_file(result, bytes);
  EXPECT_EQ(strata({"replay", federation_.out(), "--round", "1"}).status, 8);
}

TEST_F(CentralRun, ThePlanShowsNoiseBoundAndWhoSeesWhat) {
  const auto shown = plan();
  ASSERT_EQ(shown.status, 0) << shown.err;
  for (const char* says :
       {"against recipients and other clients, not the coordinator: epsilon ",
        "epsilon           pld ", "(calibrated)", "1 in each of 2 rounds; 2 rounds fit",
        "noise / (C sum w)", "The coordinator sees each client's update as it is",
        "What is hidden is all that any one client contributed."})
    EXPECT_THAT(shown.out, HasSubstr(says));
  EXPECT_THAT(shown.out, Not(HasSubstr("below the weights")));
  privacy()["weights"]["denominator"] = 1.0;
  EXPECT_THAT(plan().out,
              HasSubstr("weights.denominator 1 is below the weights of all clients, 2"));
  const double once = planned_multiplier();
  privacy()["adjacency"] = "replace_one";  // twice the distance
  EXPECT_NEAR(planned_multiplier() / once, 2.0, 1e-2);
}

TEST_F(CentralRun, RefusesWhatDoesNotGoTogether) {
  struct Case {
    const char* patch;
    const char* says;
  };
  const json good = federation_.job;
  for (const Case& c : std::initializer_list<Case>{
           {R"({"adapter": {"method": "lora"}})", "stacking shows each client's part"},
           {R"({"adapter": {"method": "rslora"}})", "use \"fedavg\" or \"zero_pad\""},
           {R"({"aggregation": {"restart": "keep"}})", "aggregation.restart: is \"keep\""},
           {R"({"aggregation": {"min_clients": 2}})", "aggregation.min_clients: is 2"},
           {R"({"aggregation": {"max_update_norm": 3}})", "aggregation.max_update_norm: is 3"},
           {R"({"adapter": {"method": "lora"},
                "aggregation": {"method": "fedavg", "encoding": "int8"}})",
            "aggregation.encoding: is \"int8\""},
           {R"({"clients": [{"name": "anna", "data": "a.jsonl"},
                            {"name": "berta", "data": "b.jsonl", "adapter": {"method": "ffa"}}]})",
            "give all clients the same method"},
           {R"({"privacy": {"weights": {"denominator": null}}})",
            "privacy.weights.denominator: is missing"},
           {R"({"privacy": {"batch_divisor": 4}})", "privacy.batch_divisor: is 4"},
           {R"({"privacy": {"clip": {"kind": "adaptive", "sigma_b": 6.4}}})",
            "privacy.clip.kind: is \"adaptive\""},
           {R"({"privacy": {"clip": {"kind": "per_layer", "bounds": {".*": 1}}}})",
            "privacy.clip.kind: is \"per_layer\""},
           {R"({"privacy": {"unit": {"kind": "example"}}})", "privacy.unit.kind: is \"example\""},
           {R"({"privacy": {"sampling": {"q": 0.5}}})", "privacy.sampling.q: is 0.5"},
           {R"({"privacy": {"amplification": {"clients": true}}})", "is not secret lowers no bill"},
           {R"({"privacy": {"weights": {"kind": "public", "values": {"anna": 1}}}})",
            "has no weight for berta"}}) {
    federation_.job = good;
    federation_.job.merge_patch(json::parse(c.patch));
    const auto done = run();
    EXPECT_EQ(done.status, 3) << c.patch << "\n" << done.err;
    EXPECT_THAT(done.err, HasSubstr(c.says)) << c.patch;
    EXPECT_FALSE(fs::exists(federation_.folder / "ledger")) << c.patch;
  }
}

}  // namespace
}  // namespace strata::cli

// A model pre-trained by parallel heads: what its flags mean, and what is seen of it afterwards.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "federation.h"

namespace strata::cli {
namespace {

using testing::HasSubstr;

class PretrainHeads : public testing::Test {
 protected:
  PretrainHeads() {
    std::string text;
    for (int i = 0; i < 40; ++i) text += "plain words and more of them.\n";
    write_file(scratch_.path() / "corpus.txt", text);
  }
  Finished pretrain(const std::vector<std::string>& more) {
    fs::remove_all(f_.out());
    std::vector<std::string> args{
        "pretrain",     "--model",  f_.model(),     "--data", scratch_.path() / "corpus.txt",
        "--warmup",     "0",        "--batch-size", "4",      "--method",
        "lte",          "--format", "json",         "-o",     f_.out(),
        "--max-length", "16"};
    args.insert(args.end(), more.begin(), more.end());
    for (const char* flag : {"--heads", "--rank"}) {
      if (std::find(more.begin(), more.end(), flag) == more.end())
        args.insert(args.end(), {flag, "2"});
    }
    return strata(args);
  }
  static std::string hash_in(const Finished& done) {
    EXPECT_EQ(done.status, 0) << done.out;
    return json::parse(done.out).at("data").at("final_model_hash");
  }
  [[nodiscard]] json config() const { return json::parse(read_file(f_.out() / "config.json")); }

  ScratchFolder scratch_;
  Federation f_{scratch_.path()};
};

// But for the rounding of merges: inside a client into floats, at a round's end from the factors.
TEST_F(PretrainHeads, HowOftenItIsLookedAtChangesNoModel) {
  const auto loss = [&](const char* every, const char* times) {
    const Finished done =
        pretrain({"--steps", "11", "--merge-every", every, "--evaluations", times, "--held-out",
                  scratch_.path() / "corpus.txt", "--learning-rate", "0.05"});
    EXPECT_EQ(done.status, 0) << done.out;
    return json::parse(done.out).at("data").at("evaluations").back().at("loss").get<double>();
  };
  const double once = loss("3", "1");
  for (const char* times : {"2", "4", "11"}) EXPECT_NEAR(loss("3", times), once, 1e-5) << times;
  EXPECT_GT(std::abs(loss("1", "2") - once), 1e-3);
}

TEST_F(PretrainHeads, NewFactorsTakeAsManyStepsAsWereAskedFor) {
  for (const char* evaluations : {"1", "4", "5"}) {
    hash_in(
        pretrain({"--steps", "12", "--merge-every", "2", "--reset", "--evaluations", evaluations}));
    const json job = config();
    EXPECT_EQ(job.at("training").at("local_steps").get<int>() *
                  job.at("aggregation").at("rounds").get<int>(),
              12);
  }
  const Finished refused = pretrain({"--steps", "10", "--merge-every", "4", "--reset"});
  EXPECT_EQ(refused.status, 2);
  EXPECT_THAT(refused.out, HasSubstr("--steps 10"));
}

// By heads, and dealt out to clients: the resolved job says all of it.
TEST_F(PretrainHeads, TheRunFoldersJobGivesTheModelAgain) {
  for (const char* clients : {"1", "2"}) {
    const std::string expected =
        hash_in(pretrain({"--steps", "4", "--merge-every", "2", "--clients", clients}));
    json job = config();
    EXPECT_EQ(job.at("data").at("plain_text"), true);
    write_file(scratch_.path() / "again.json", job.dump());
    EXPECT_EQ(hash_in(strata({"run", scratch_.path() / "again.json", "-o", scratch_.path() / "two",
                              "--force", "--format", "json"})),
              expected);
  }
}

TEST_F(PretrainHeads, DiagnosticsAreSeenByInspect) {
  hash_in(pretrain(
      {"--steps", "6", "--merge-every", "3", "--evaluations", "2", "--diagnostics", "--train-a"}));
  const Finished seen = strata({"inspect", f_.out(), "--format", "json"});
  ASSERT_EQ(seen.status, 0) << seen.out;
  const json rounds = json::parse(seen.out).at("data").at("rounds");
  ASSERT_EQ(rounds.size(), 2U);
  for (const json& round : rounds) {
    EXPECT_GT(round.at("effective_rank").get<double>(), 0.9) << round;
    EXPECT_LE(round.at("effective_rank").get<double>(), 8.0);  // [B, -B'] of two heads of rank two
    EXPECT_GT(round.at("alignment_a").get<double>(), 0.0);
    EXPECT_LE(round.at("alignment_a").get<double>(), 1.0);
    EXPECT_GT(round.at("gradient_cosine").get<double>(), 0.0) << "heads descend";
  }
}

// The gradient of the merged loss: of the run and of its layers, told and shown.
TEST_F(PretrainHeads, TheDescentOfTheMergedLossIsToldAndShown) {
  for (const char* clients : {"1", "2"}) {
    hash_in(pretrain({"--steps", "6", "--merge-every", "3", "--evaluations", "2", "--diagnostics",
                      "--clients", clients}));
    const auto told = events(f_.out(), "gradient");
    ASSERT_EQ(told.size(), 2U);
    const json shown =
        json::parse(strata({"inspect", f_.out(), "--format", "json"}).out).at("data");
    for (std::size_t i = 0; i < told.size(); ++i) {
      const json& event = told[i];
      EXPECT_EQ(event.at("records_of"), "clients");
      EXPECT_EQ(event.at("records"), 4) << "a step's";
      const double gradient = event.at("gradient_norm"), update = event.at("update_norm");
      const double cosine = event.at("gradient_cosine");
      EXPECT_GT(cosine, 0.0) << event;
      EXPECT_NEAR(event.at("descent").get<double>(), cosine * gradient * update, 1e-9);
      const json& row = shown.at("rounds").at(i);
      EXPECT_EQ(row.at("gradient_of"), "clients");
      EXPECT_EQ(row.at("merged_loss"), event.at("loss"));
      for (const char* key : {"gradient_norm", "gradient_cosine", "descent"})
        EXPECT_EQ(row.at(key), event.at(key)) << key;
      double gradient2 = 0.0, update2 = 0.0, descent = 0.0;
      for (const json& tensor : events(f_.out(), "tensor")) {
        if (tensor.at("round") != event.at("round")) continue;
        gradient2 += std::pow(tensor.at("gradient_norm").get<double>(), 2);
        update2 += std::pow(tensor.at("update_norm").get<double>(), 2);
        descent += tensor.at("descent").get<double>();
      }
      EXPECT_NEAR(std::sqrt(gradient2), gradient, 1e-9);
      EXPECT_NEAR(std::sqrt(update2), update, 1e-9);
      EXPECT_NEAR(descent, event.at("descent").get<double>(), 1e-9);
    }
    EXPECT_LT(told[1].at("loss"), told[0].at("loss")) << "what is merged falls";
    EXPECT_TRUE(shown.at("tensors").at(0).contains("gradient_cosine"));
    EXPECT_THAT(strata({"inspect", f_.out()}).out, HasSubstr("along it"));
  }
  hash_in(pretrain({"--steps", "3", "--merge-every", "3"}));
  EXPECT_TRUE(events(f_.out(), "gradient").empty()) << "only when asked for";
}

// Settings mean what they mean over a job file, for all clients, and are refused in its words.
TEST_F(PretrainHeads, SettingsGoOverWhatTheFlagsSay) {
  std::set<std::string> hashes;
  for (const char* moments : {"reset", "keep", "prune"}) {
    hashes.insert(hash_in(pretrain({"--steps", "4", "--merge-every", "2", "--reset", "--set",
                                    std::string("training.moments=") + moments})));
    EXPECT_EQ(config().at("training").at("moments"), moments);
  }
  EXPECT_EQ(hashes.size(), 3U);
  EXPECT_TRUE(
      hashes.contains(hash_in(pretrain({"--steps", "4", "--merge-every", "2", "--reset"}))));
  hash_in(pretrain({"--steps", "4", "--merge-every", "2", "--clients", "2", "--set",
                    "adapter.rank=1", "--set", "output.directory=elsewhere"}));
  EXPECT_EQ(config().at("clients").at(1).at("adapter").at("rank"), 1);
  EXPECT_FALSE(fs::exists("elsewhere"));
  for (const char* setting : {"training.moment=keep", "training.moments=some", "training.moments",
                              "adapter.heads=3", "evaluation.every=0"}) {
    const Finished here = pretrain({"--steps", "4", "--merge-every", "2", "--set", setting});
    const Finished there =
        f_.run({"--set", "training.batch_size=4", "--set", setting, "--format", "json"});
    EXPECT_EQ(here.status, there.status) << setting;
    EXPECT_NE(here.status, 0) << setting;
    const auto message = [](const Finished& done) {
      const std::string line = json::parse(done.out).at("message");
      return line.substr(line.find(": "));  // behind the file's name, where there is one
    };
    EXPECT_EQ(message(here), message(there)) << here.out;
  }
}

TEST_F(PretrainHeads, BadNumbersAreRefusedInOneLine) {
  const auto refused = [&](const std::vector<std::string>& more, int status,
                           const std::string& words) {
    const Finished done = pretrain(more);
    EXPECT_EQ(done.status, status) << done.out;
    EXPECT_THAT(json::parse(done.out).at("message").get<std::string>(), HasSubstr(words));
    EXPECT_LT(json::parse(done.out).at("message").get<std::string>().size(), 200U);
  };
  refused({"--merge-every", "0"}, 2, "--merge-every");
  refused({"--steps", "0"}, 2, "--steps");
  refused({"--heads", "3"}, 2, "the 3 heads have equal parts of a batch");
  refused({"--rank", "1000"}, 3, "a rank is between 1 and the layer's smaller side");
}

TEST_F(PretrainHeads, AStoppedRunGoesOnToTheSameModel) {
  const std::vector<std::string> plan{"--steps", "40", "--merge-every", "5", "--evaluations", "8"};
  const std::string expected = hash_in(pretrain(plan));
  std::vector<std::string> args{STRATA_BINARY, "pretrain", "--model",
                                f_.model(),    "--data",   scratch_.path() / "corpus.txt",
                                "--warmup",    "0",        "--batch-size",
                                "4",           "--method", "lte",
                                "--heads",     "2",        "--rank",
                                "2",           "--format", "json",
                                "-o",          f_.out(),   "--max-length",
                                "16"};
  args.insert(args.end(), plan.begin(), plan.end());
  fs::remove_all(f_.out());
  support::Running first(args);
  while (!fs::exists(f_.out() / "state" / "journal"))
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  first.signal(SIGKILL);
  (void)first.wait();
  EXPECT_EQ(hash_in(support::run_program(args)), expected);
}

}  // namespace
}  // namespace strata::cli

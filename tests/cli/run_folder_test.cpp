// What a run leaves on the disk, however it ends: whole files only, and a manifest only at the end.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <memory>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "base/hash.h"
#include "federation.h"
#include "formats/safetensors.h"
#include "sys/disk.h"

namespace strata::cli {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::EndsWith;
using testing::HasSubstr;
using testing::IsEmpty;

json parsed(const fs::path& path) { return json::parse(read_file(path)); }

/// Every file and folder below can be read to its end and is nobody's temporary.
void expect_whole(const fs::path& folder) {
  const auto disk = sys::make_posix_disk();
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = entry.path().filename();
    if (fs::relative(entry.path(), folder).string().starts_with("state"))
      continue;  // the run's own
    EXPECT_FALSE(name.starts_with(".") || name.find(".tmp") != std::string::npos) << entry.path();
    if (entry.is_directory()) {
      EXPECT_TRUE(name == "rounds" || !fs::is_empty(entry.path())) << entry.path();
    } else if (name.ends_with(".json")) {
      EXPECT_TRUE(json::accept(read_file(entry.path()))) << entry.path();
    } else if (name.ends_with(".jsonl")) {
      EXPECT_THAT(read_file(entry.path()), EndsWith("}\n"));
      EXPECT_NO_THROW((void)events(folder, ""));
    } else if (name.ends_with(".safetensors")) {
      EXPECT_TRUE(formats::SafetensorsFile::open(*disk, entry.path())) << entry.path();
    }
  }
}

class RunFolder : public testing::Test {
 protected:
  ScratchFolder scratch_;
  Federation federation_{scratch_.path()};
  fs::path out_ = federation_.out();

  /// Anna's scores overflow: her factors get steps that no float holds. Berta's barely move.
  void let_anna_diverge() {
    federation_.job["clients"][0]["adapter"] = {
        {"alpha", 1e6}, {"lr_ratio_b", 1e6}, {"targets", {"q_proj", "k_proj"}}};
    federation_.job["clients"][1]["adapter"] = {{"alpha", 1e-3}};
    federation_.job["training"] = {{"local_steps", 2},
                                   {"batch_size", 2},
                                   {"learning_rate", 1000},
                                   {"optimizer", "sgd"},
                                   {"max_grad_norm", 0}};
    federation_.job["aggregation"]["rounds"] = 2;
    federation_.job["evaluation"] = {{"data", "b.jsonl"}};
  }
};

TEST_F(RunFolder, TheManifestHoldsTheHashOfEveryFileButMetrics) {
  ASSERT_EQ(federation_.run().status, 0);
  expect_whole(out_);
  const json manifest = parsed(out_ / "manifest.json");
  std::vector<std::string> listed, there;
  for (const auto& [name, hash] : manifest.at("files").items()) {
    listed.push_back(name);
    const std::string bytes = read_file(out_ / name);
    EXPECT_EQ(hash, hex(sha256(std::as_bytes(std::span(bytes.data(), bytes.size()))))) << name;
  }
  for (const auto& entry : fs::recursive_directory_iterator(out_)) {
    const std::string name = fs::relative(entry.path(), out_);
    if (!entry.is_directory() && name != "metrics.jsonl" && name != "manifest.json")
      there.push_back(name);
  }
  std::sort(there.begin(), there.end());
  EXPECT_EQ(listed, there);
}

TEST_F(RunFolder, SameJobSameModelHoweverManyTrainSideBySide) {
  const auto hash_with = [&](const std::string& threads) {
    const Finished finished =
        federation_.run({"--force", "--threads", threads, "--format", "json"});
    return json::parse(finished.out).at("data").at("final_model_hash").get<std::string>();
  };
  const std::string one = hash_with("1");
  EXPECT_EQ(hash_with("1"), one);
  EXPECT_EQ(hash_with("2"), one);
}

TEST_F(RunFolder, AClientWhoseUpdateIsNotFiniteIsLeftOutByName) {
  let_anna_diverge();
  const Finished finished = federation_.run();
  ASSERT_EQ(finished.status, 0) << finished.err;
  EXPECT_THAT(finished.err, HasSubstr("anna is left out: "));
  EXPECT_THAT(finished.out, HasSubstr("left out: round 1: client anna"));
  expect_whole(out_);
  for (const char* round : {"0001", "0002"})
    EXPECT_EQ(parsed(out_ / "rounds" / round / "strata.json").at("clients"), (json{"berta"}));
  const json manifest = parsed(out_ / "manifest.json");
  EXPECT_EQ(manifest.at("refused").size(), 2u);
  EXPECT_THAT(manifest.at("refused").at(0).get<std::string>(), HasSubstr("must be finite"));
  const auto refused = events(out_, "client_refused");
  ASSERT_EQ(refused.size(), 2u);
  EXPECT_EQ(refused[0].at("client"), "anna");
  for (const auto& evaluation : events(out_, "evaluation"))
    EXPECT_TRUE(evaluation.at("loss").is_number()) << "anna reached the model";
}

// What is trained whole is averaged into the model in every round, whatever the method.
TEST_F(RunFolder, KeepsTheModelOfRoundsOfFullTraining) {
  for (const char* method : {"flora", "fedavg"}) {
    federation_.job["adapter"] = {{"method", "full"}};
    federation_.job["aggregation"] = {{"method", method}, {"rounds", 2}};
    federation_.job["output"] = {{"checkpoint_every", 1}, {"merged_model", true}};
    fs::remove(federation_.folder / "job.json");
    const Finished finished = federation_.run({"--force"});
    ASSERT_EQ(finished.status, 0) << finished.err;
    const auto weights = [&](const char* folder) {
      const std::string bytes = read_file(out_ / folder / "model.safetensors");
      return hex(sha256(std::as_bytes(std::span(bytes))));
    };
    EXPECT_NE(weights("checkpoints/000001"), weights("model")) << method;
    EXPECT_EQ(weights("checkpoints/000002"), weights("model")) << method;
    expect_whole(out_);
  }
}

TEST_F(RunFolder, AClientWhoseUpdateIsAboveTheNormIsLeftOutByName) {
  federation_.job["clients"][0]["adapter"] = {{"alpha", 1e5}};
  federation_.job["aggregation"]["max_update_norm"] = 10;
  federation_.job["aggregation"]["rounds"] = 2;
  const Finished finished = federation_.run();
  ASSERT_EQ(finished.status, 0) << finished.err;
  const auto refused = events(out_, "client_refused");
  ASSERT_EQ(refused.size(), 2u);
  EXPECT_EQ(refused[0].at("client"), "anna");
  EXPECT_THAT(refused[0].at("reason").get<std::string>(),
              AllOf(HasSubstr("has norm "), HasSubstr("aggregation.max_update_norm is 10")));
  for (const char* round : {"0001", "0002"})
    EXPECT_EQ(parsed(out_ / "rounds" / round / "strata.json").at("clients"), (json{"berta"}));
}

TEST_F(RunFolder, ARoundWithTooFewClientsEndsTheRunAndSaysWhoWasLeftOut) {
  let_anna_diverge();
  federation_.job["aggregation"]["min_clients"] = 2;
  const Finished finished = federation_.run({"--format", "json"});
  EXPECT_EQ(finished.status, 5);
  const json envelope = json::parse(finished.out);
  EXPECT_EQ(envelope.at("error_code"), "E_QUORUM");
  EXPECT_THAT(envelope.at("message").get<std::string>(), HasSubstr("anna"));
  EXPECT_FALSE(fs::exists(out_)) << "no round was finished";
}

TEST_F(RunFolder, IsReplacedWholeWithForce) {
  write_file(out_ / "rounds" / "0007" / "strata.json", "{}");
  write_file(out_ / "metrics.jsonl", "{\"event\": \"old\"}\n");
  EXPECT_EQ(federation_.run({"--force"}).status, 0);
  EXPECT_FALSE(fs::exists(out_ / "rounds" / "0007"));
  EXPECT_THAT(events(out_, "old"), IsEmpty());
  expect_whole(out_);
}

TEST_F(RunFolder, IsKeptWithForceWhenTheJobCannotStart) {
  write_file(out_ / "mine.txt", "keep me");
  write_file(federation_.b(), "{\"text\": \n");
  EXPECT_EQ(federation_.run({"--force"}).status, 7);
  EXPECT_EQ(read_file(out_ / "mine.txt"), "keep me");
}

class Signals : public RunFolder {
 protected:
  /// A run that would take hours, after its second round.
  void start(const std::vector<std::string>& more = {}, std::vector<std::string> launcher = {}) {
    federation_.job["aggregation"]["rounds"] = 1000000;
    federation_.job["training"] = {{"local_steps", 1}, {"batch_size", 2}};
    fs::remove_all(out_);
    const auto args = strata_args(federation_.run_args(more));
    launcher.insert(launcher.end(), args.begin(), args.end());
    running_ = std::make_unique<support::Running>(launcher);
    wait_for(out_ / "rounds" / "0002");
  }
  std::unique_ptr<support::Running> running_;
};

TEST_F(Signals, OneEndsTheRunWithTheFinishedRoundsWhole) {
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) {
    start();
    running_->signal(signal);
    const Finished finished = running_->wait();
    EXPECT_EQ(finished.status, 75) << finished.err;
    EXPECT_THAT(finished.err, EndsWith("[E_INTERRUPTED]\n"));
    expect_whole(out_);
    EXPECT_FALSE(fs::exists(out_ / "manifest.json"));
    const auto aggregates = events(out_, "aggregate");
    ASSERT_GE(aggregates.size(), 2u);
    std::size_t folders = 0;
    for (const auto& entry : fs::directory_iterator(out_ / "rounds"))
      folders += entry.is_directory();
    EXPECT_EQ(folders, aggregates.size());
  }
}

TEST_F(Signals, ATerminalThatIsGoneDoesNotEndWhatNohupStarted) {
  start({}, {"nohup"});
  running_->signal(SIGHUP);
  const auto rounds = std::distance(fs::directory_iterator(out_ / "rounds"), {});
  wait_for(out_ / "rounds" / fmt::format("{:04}", rounds + 2));
  running_->signal(SIGTERM);
  EXPECT_EQ(running_->wait().status, 75);
}

TEST_F(Signals, InJsonTheEnvelopeSaysThatItWasInterrupted) {
  start({"--format", "json"});
  running_->signal(SIGTERM);
  const Finished finished = running_->wait();
  const json envelope = json::parse(finished.out);
  EXPECT_EQ(envelope.at("status"), "error");
  EXPECT_EQ(envelope.at("exit_code"), 75);
  EXPECT_EQ(envelope.at("error_code"), "E_INTERRUPTED");
}

// Which of two pending signals is handled last is the system's choice.
TEST_F(Signals, TheSecondEndsTheProgramAtOnce) {
  start();
  running_->signal(SIGSTOP);
  running_->signal(SIGTERM);
  running_->signal(SIGINT);
  running_->signal(SIGCONT);
  EXPECT_THAT(running_->wait().status, AnyOf(128 + SIGTERM, 128 + SIGINT));
}

// The system's signal killed the program in the middle of a file, and a round's folder was made
// before its files.
TEST(Regression, ALimitOnFileSizesLeftHalfARound) {
  const ScratchFolder scratch;
  const Federation federation(scratch.path());
  std::string command = "ulimit -f 8; exec";  // blocks of 512 bytes: too few for an adapter
  for (const auto& arg : strata_args(federation.run_args({"-q"}))) command += " '" + arg + "'";
  const Finished finished = support::run_program({"sh", "-c", command});
  EXPECT_EQ(finished.status, 1);
  EXPECT_THAT(finished.err, HasSubstr(": writing failed"));
  EXPECT_THAT(finished.err, EndsWith("[E_IO]\n"));
  EXPECT_FALSE(fs::exists(federation.out())) << "no round was finished";
}

// The run's record of its data ended in E_INTERNAL.
TEST(Regression, ADataFileWhoseNameIsNoUtf8EndedTheRun) {
  const ScratchFolder scratch;
  const Federation federation(scratch.path());
  const fs::path odd = scratch.path() / "odd\xff.jsonl";
  fs::copy_file(federation.a(), odd);
  const Finished finished =
      strata({"pretrain", "--model", federation.model(), "--data", odd, "--steps", "1", "--warmup",
              "0", "--evaluations", "1", "-o", federation.out()});
  EXPECT_EQ(finished.status, 0) << finished.err;
  const json data = parsed(federation.out() / "data.json");
  EXPECT_THAT(data.at("clients").at(0).at("source").get<std::string>(),
              HasSubstr("odd\ufffd.jsonl"));
}

}  // namespace
}  // namespace strata::cli

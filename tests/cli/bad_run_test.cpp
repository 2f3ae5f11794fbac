// What a run that cannot be or breaks leaves behind, and how it says so: folders that are there
// already, a full disk, JSON, names that are no UTF-8.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "federation.h"
#include "one_line.h"

namespace strata::cli {
namespace {

using support::run_program;
using testing::HasSubstr;
using testing::Not;

constexpr int kConfig = 3;
constexpr int kBadFile = 7;

// The coordinator of clients that train elsewhere never sees what they hold back.
TEST(BadRun, ExactMatchNeedsRecordsThatTheCoordinatorHas) {
  const ScratchFolder scratch;
  Federation federation(scratch.path());
  federation.job["data"]["held_out_fraction"] = 0.5;
  federation.job["evaluation"]["exact_match"] = true;
  write_file(federation.folder / "job.json", federation.job.dump());
  const auto kits = federation.folder / "kits";
  ASSERT_EQ(strata({"certs", "demo", "-o", kits, "--host", "localhost", "--clients", "1"}).status,
            0);
  const auto refused = strata({"coordinator", federation.folder / "job.json", "--certs",
                               kits / "coordinator", "-o", federation.out()});
  expect_one_line(refused, kConfig, {"evaluation.exact_match", "set evaluation.data, which"});
  EXPECT_THAT(refused.err, Not(HasSubstr("held_out_fraction")));
}

// Each of several would take itself for the only one and do all of the work.
TEST(BadRun, AProcessOfALauncherThatDoesNotCountIsRefused) {
  const ScratchFolder scratch;
  const Federation federation(scratch.path());
  write_file(scratch.path() / "job.json", federation.job.dump(1));
  for (const char* rank : {"0", "3"}) {
    const auto refused =
        run_program({"/usr/bin/env", std::string("PMIX_RANK=") + rank, STRATA_BINARY, "run",
                     scratch.path() / "job.json", "-o", federation.out()});
    expect_one_line(refused, kConfig,
                    {"environment variable PMIX_RANK", "`srun --mpi=pmix`", "`env -u PMIX_RANK"});
    EXPECT_FALSE(fs::exists(federation.out()));
  }
}

TEST(BadRun, AnOutputFolderThatExistsIsLeftAloneWithoutForce) {
  const ScratchFolder scratch;
  const Federation federation(scratch.path());
  write_file(federation.out() / "mine.txt", "keep me");
  expect_one_line(federation.run(), 1, {"out", "--force"});
  EXPECT_EQ(read_file(federation.out() / "mine.txt"), "keep me");
  EXPECT_EQ(std::distance(fs::directory_iterator(federation.out()), {}), 1);
}

TEST(BadRun, ForceNeverTakesWhatTheJobReads) {
  const ScratchFolder scratch;
  const Federation federation(scratch.path());
  write_file(scratch.path() / "job.json", federation.job.dump(1));
  for (const fs::path& out : {scratch.path(), scratch.path() / "", federation.model()}) {
    const Finished finished = strata({"run", scratch.path() / "job.json", "-o", out, "--force"});
    expect_one_line(finished, kConfig, {"model.path", "--force"});
    EXPECT_TRUE(fs::exists(federation.weights()));
  }
}

TEST(BadRun, InJsonFormatTheErrorIsOneObjectOnStdout) {
  const ScratchFolder scratch;
  Federation federation(scratch.path());
  federation.job["adapter"]["rank"] = 0;
  const Finished finished = federation.run({"--format", "json"});
  const json envelope = json::parse(finished.out, nullptr, false);
  ASSERT_TRUE(envelope.is_object()) << finished.out;
  EXPECT_EQ(envelope.value("status", ""), "error");
  EXPECT_EQ(envelope.value("exit_code", 0), kConfig);
  EXPECT_EQ(envelope.value("error_code", ""), "E_CONFIG");
  EXPECT_THAT(envelope.value("message", ""), HasSubstr("adapter.rank"));
  EXPECT_EQ(finished.status, kConfig);
}

TEST(BadRun, ADiskThatFillsUpEndsTheRunWithOneLine) {
  if (run_program({"unshare", "-Urm", "true"}).status != 0)
    GTEST_SKIP() << "no user namespaces here to mount in";
  const ScratchFolder scratch;
  const Federation federation(scratch.path());
  write_file(scratch.path() / "job.json", federation.job.dump(1));
  fs::create_directory(scratch.path() / "small");
  const std::string at = scratch.path().string();
  const Finished finished =
      run_program({"unshare", "-Urm", "sh", "-c",
                   "mount -t tmpfs -o size=16k tmpfs " + at + "/small && " STRATA_BINARY " run " +
                       at + "/job.json -o " + at + "/small/out"});
  expect_one_line(finished, 1, {"small/out", "space"});
}

TEST(BadRun, NamesThatAreNoUtf8StillGiveOneJsonObject) {
  const ScratchFolder scratch;
  const Federation federation(scratch.path());
  const std::string out = (scratch.path() / "out\xff").string();
  const Finished good =
      strata({"export", "--model", federation.model(), "-o", out, "--format", "json"});
  EXPECT_EQ(good.status, 0) << good.out;
  EXPECT_EQ(json::parse(good.out).value("status", ""), "ok");
  const Finished bad =
      strata({"eval", "--model", "no\xffwhere", "--data", "x", "--format", "json"});
  EXPECT_EQ(bad.status, kBadFile);
  EXPECT_EQ(json::parse(bad.out).value("error_code", ""), "E_FILE_MISSING");
}

}  // namespace
}  // namespace strata::cli

// What a command line gets that cannot be meant: one clear line, the documented exit status,
// nothing left behind.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "federation.h"
#include "one_line.h"

namespace strata::cli {
namespace {

constexpr int kUsage = 2;
constexpr int kBadFile = 7;

TEST(BadCommandLine, PretrainNeedsRecordsThatPredictSomething) {
  const ScratchFolder scratch;
  const Federation federation(scratch.path());
  std::vector<std::string> args{
      "pretrain", "--model", federation.model(), "--data", scratch.path() / "b.jsonl", "--steps",
      "1",        "-o",      federation.out()};
  auto with_short = args;
  with_short.insert(with_short.end(), {"--max-length", "1"});
  expect_one_line(strata(with_short), kUsage, {"--max-length"});
  args.insert(args.end(), {"--format", "json"});
  const Finished finished = strata(args);  // one step is one round, however many evaluations
  ASSERT_EQ(finished.status, 0) << finished.out;
  EXPECT_EQ(json::parse(finished.out)["data"]["rounds"].size(), 1U);
}

TEST(BadCommandLine, UnknownVerbsAndFlagsAreUsageErrors) {
  expect_one_line(strata({"evla"}), kUsage, {"evla"});
  expect_one_line(strata({"eval", "--modle", "x"}), kUsage, {"--modle"});
  expect_one_line(strata({"eval"}), kUsage, {"--model"});
}

TEST(BadCommandLine, MergeWantsAWeightForEachAdapter) {
  const ScratchFolder scratch;
  const fs::path adapter =
      fs::path(STRATA_SOURCE_DIR) / "tests" / "golden" / "model" / "llama" / "adapter";
  const fs::path out = scratch.path() / "out";
  expect_one_line(strata({"merge", adapter, adapter, "--weights", "1", "-o", out}), kUsage,
                  {"--weights"});
  EXPECT_FALSE(fs::exists(out));
}

TEST(BadCommandLine, ImportRefusesWhatIsNoGguf) {
  const ScratchFolder scratch;
  write_file(scratch.path() / "model.gguf", "GGUF\x03");
  const fs::path out = scratch.path() / "out";
  expect_one_line(strata({"import", scratch.path() / "model.gguf", "-o", out}), kBadFile,
                  {"model.gguf"});
  EXPECT_FALSE(fs::exists(out));
}

}  // namespace
}  // namespace strata::cli

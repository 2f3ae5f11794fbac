// --memory-limit: refused before anything is written, with what would fit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "cli/memory_plan.h"
#include "federation.h"

namespace strata::cli {
namespace {

using testing::HasSubstr;

TEST(MemoryLimit, IsBytesOrDecimalUnits) {
  EXPECT_EQ(parse_bytes("3000").value(), 3000u);
  EXPECT_EQ(parse_bytes("2.5G").value(), 2500000000u);
  EXPECT_EQ(parse_bytes("800M").value(), 800000000u);
  for (const char* wrong : {"", "G", "-1", "0", "12K", "1.5GB", "1e300G", "nan"})
    EXPECT_FALSE(parse_bytes(wrong)) << wrong;
}

TEST(MemoryLimit, ThatIsNoSizeIsAUsageError) {
  const auto done = strata(
      {"bench", "train", "--model", golden_model("llama").string(), "--memory-limit", "lots"});
  EXPECT_EQ(done.status, 2);
  EXPECT_THAT(done.err, HasSubstr("2.5G"));
}

TEST(MemoryLimit, RefusesARunThatNeedsMoreAndLeavesNothing) {
  const support::ScratchFolder scratch;
  const Federation federation(scratch.path());
  const auto done = federation.run({"--memory-limit", "1M"});
  EXPECT_EQ(done.status, 3) << done.err;
  EXPECT_THAT(done.err, HasSubstr("--memory-limit allows 1.0 MB"));
  EXPECT_THAT(done.err, HasSubstr("longest record alone"));
  EXPECT_FALSE(fs::exists(federation.out()));
  EXPECT_EQ(federation.run({"--memory-limit", "2G"}).status, 0);
}

TEST(MemoryLimit, NamesTheLargestPassThatFitsAndThatOneIsTaken) {
  const std::vector<std::string> bench{
      "bench",     "train", "--model",  golden_model("llama").string(),
      "--records", "64",    "--length", "64",
      "--rank",    "4",     "--steps",  "1",
      "--threads", "1"};
  const auto with = [&](const std::vector<std::string>& more) {
    auto args = bench;
    args.insert(args.end(), more.begin(), more.end());
    return strata(args);
  };
  const auto refused = with({"--pass-tokens", "4096", "--memory-limit", "46M"});
  ASSERT_EQ(refused.status, 3) << refused.err;
  std::smatch found;
  ASSERT_TRUE(std::regex_search(refused.err, found, std::regex("pass_tokens to at most ([0-9]+)")))
      << refused.err;
  EXPECT_EQ(with({"--pass-tokens", found[1].str(), "--memory-limit", "46M"}).status, 0);
}

}  // namespace
}  // namespace strata::cli

// Real jobs of a real MPI, on this machine.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/process.h"

namespace strata::transport {
namespace {

using support::Finished;

std::size_t count_of(const std::string& text, const std::string& what) {
  std::size_t out = 0;
  for (auto at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++out;
  return out;
}

class MpiRanks : public testing::Test {
 protected:
  void SetUp() override {
    if (std::string(STRATA_MPI_RANKS).empty()) GTEST_SKIP() << "built without an MPI";
    if (support::run_program({"sh", "-c", "command -v mpirun"}).status != 0)
      GTEST_SKIP() << "there is no mpirun";
  }
  // In a container the user may be root. More ranks than cores: they share. The sanitizers cannot
  // see into MPI, which keeps to itself what it allocates.
  static Finished job(int ranks, const std::string& what) {
    return support::run_program({"timeout", "-k", "1", "120", "env", "OMPI_ALLOW_RUN_AS_ROOT=1",
                                 "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1", "ASAN_OPTIONS=detect_leaks=0",
                                 "TSAN_OPTIONS=ignore_noninstrumented_modules=1", "mpirun",
                                 "--oversubscribe", "--bind-to", "none", "--enable-recovery", "-n",
                                 std::to_string(ranks), STRATA_MPI_RANKS, STRATA_MPI_PLUGIN, what});
  }
  static void expect_echo(int ranks) {
    const auto done = job(ranks, "echo");
    EXPECT_EQ(done.status, 0) << done.out << done.err;
    EXPECT_EQ(count_of(done.out, " talked\n"), ranks) << done.out << done.err;
    EXPECT_EQ(count_of(done.out, " left\n"), ranks) << done.out << done.err;
  }
};

TEST_F(MpiRanks, OneAloneIsItsOwnClients) { expect_echo(1); }
TEST_F(MpiRanks, TwoTalkBothWaysAtOnce) { expect_echo(2); }
TEST_F(MpiRanks, FiveTalkToOne) { expect_echo(5); }

TEST_F(MpiRanks, ADeadOneIsMissedAndTheOthersGoOn) {
  const auto done = job(3, "death");
  EXPECT_THAT(done.out, testing::HasSubstr("rank 0 lost: rank 2: has been silent for "))
      << done.err;
  EXPECT_EQ(count_of(done.out, " talked\n"), 5u) << done.out << done.err;
  EXPECT_EQ(count_of(done.out, " left"), 2u) << done.out << done.err;
}

TEST_F(MpiRanks, OneThatHasFinishedIsNotMissed) {
  const auto done = job(3, "early");
  EXPECT_EQ(done.status, 0) << done.err;
  EXPECT_EQ(count_of(done.out, " talked\n"), 2u) << done.out << done.err;
  EXPECT_EQ(count_of(done.out, " left\n"), 3u) << done.out << done.err;
}

}  // namespace
}  // namespace strata::transport

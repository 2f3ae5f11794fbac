#include "tensor/team.h"

#include <gtest/gtest.h>

#include <atomic>
#include <numeric>
#include <set>
#include <vector>

namespace strata::tensor {
namespace {

TEST(Team, RunsEveryMemberOnce) {
  for (const int size : {1, 2, 5}) {
    Team team(size);
    EXPECT_EQ(team.size(), size);
    for (int call = 0; call < 200; ++call) {
      std::vector<std::atomic<int>> seen(static_cast<std::size_t>(size));
      team.run([&](int member) { ++seen[static_cast<std::size_t>(member)]; });
      for (const auto& count : seen) ASSERT_EQ(count, 1);
    }
  }
}

TEST(Team, HandsOutEachTaskOnce) {
  Team team(3);
  for (const std::size_t n : {0u, 1u, 2u, 1000u}) {
    std::vector<std::atomic<int>> seen(n);
    team.for_tasks(n, [&](std::size_t i, int member) {
      ASSERT_LT(member, 3);
      ++seen[i];
    });
    for (const auto& count : seen) EXPECT_EQ(count, 1);
  }
}

TEST(Team, CutsRangesThatCoverEverythingAndAreNotShorterThanTheGrain) {
  Team team(4);
  for (const std::size_t n : {0u, 1u, 7u, 8u, 9u, 31u, 100u}) {
    std::vector<std::atomic<int>> seen(n);
    team.for_range(n, 8, [&](std::size_t first, std::size_t last, int) {
      EXPECT_TRUE(last - first >= 8 || n < 8) << n;
      for (std::size_t i = first; i < last; ++i) ++seen[i];
    });
    for (const auto& count : seen) EXPECT_EQ(count, 1);
  }
}

TEST(Team, SeesWhatTheCallerWroteAndTheCallerSeesWhatItWrote) {
  Team team(2);
  std::vector<int> in(1000), out(1000);
  for (int round = 0; round < 100; ++round) {
    std::iota(in.begin(), in.end(), round);
    team.for_range(in.size(), 1, [&](std::size_t first, std::size_t last, int) {
      for (std::size_t i = first; i < last; ++i) out[i] = 2 * in[i];
    });
    for (std::size_t i = 0; i < in.size(); ++i)
      ASSERT_EQ(out[i], 2 * (static_cast<int>(i) + round));
  }
}

TEST(Team, CanBeMovedBetweenCalls) {
  Team first(2);
  first.run([](int) {});
  Team second = std::move(first);
  std::atomic<int> calls{0};
  second.run([&](int) { ++calls; });
  EXPECT_EQ(calls, 2);
}

TEST(TeamDeathTest, ACallFromInsideACallIsAMistake) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        Team team(2);
        team.run([&](int member) {
          if (member == 0) team.run([](int) {});
        });
      },
      "inside a running call");
}

}  // namespace
}  // namespace strata::tensor

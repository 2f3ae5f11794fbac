// A client whose updates are rejected again and again is not asked any more, whoever replays the
// journal.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/round_machine.h"

namespace strata::coordinator {
namespace {

using testing::ElementsAre;

RoundMachine machine(std::uint32_t per_round = 0) {
  RoundMachine out(
      {.clients = {"a", "b", "c"}, .rounds = 20, .quorum = 1, .per_round = per_round, .seed = 3});
  EXPECT_TRUE(out.apply(RunOpened{}));
  return out;
}

/// A round in which `bad` (if it is drawn) is left out by `record`, and the others contribute.
template <class Record>
void play(RoundMachine& m, const std::string& bad) {
  const RoundOpened opening = m.next_round({});
  ASSERT_TRUE(m.apply(opening));
  for (const auto& client : opening.selected) {
    if (client == bad) {
      ASSERT_TRUE(m.apply(Record{opening.round, client, "holds a NaN"}));
    } else {
      UpdateAccepted update;
      update.round = opening.round, update.client = client;
      ASSERT_TRUE(m.apply(update));
    }
  }
  const auto closing = m.closing(false);
  ASSERT_TRUE(closing);
  ASSERT_TRUE(m.apply(*closing));
  RoundCommitted done;
  done.round = opening.round;
  ASSERT_TRUE(m.apply(done));
}

TEST(BarredClient, IsNotAskedAfterFiveRejectedUpdates) {
  RoundMachine m = machine();
  for (std::uint32_t i = 0; i < kRejectedMax; ++i) {
    EXPECT_THAT(m.next_round({}).selected, ElementsAre("a", "b", "c"));
    EXPECT_TRUE(m.barred().empty());
    play<UpdateRejected>(m, "b");
  }
  EXPECT_EQ(m.rejected("b"), kRejectedMax);
  EXPECT_THAT(m.barred(), ElementsAre("b"));
  EXPECT_THAT(m.next_round({}).selected, ElementsAre("a", "c"));
}

TEST(BarredClient, IsNoClientThatFails) {
  RoundMachine m = machine();
  for (std::uint32_t i = 0; i < 2 * kRejectedMax; ++i) play<ClientOut>(m, "b");
  EXPECT_THAT(m.next_round({}).selected, ElementsAre("a", "b", "c"));
}

TEST(BarredClient, LeavesItsPlaceInADrawToOthers) {
  RoundMachine m = machine(2);
  while (m.barred().empty() && m.round() < 20) play<UpdateRejected>(m, "b");
  ASSERT_THAT(m.barred(), ElementsAre("b"));
  EXPECT_THAT(m.next_round({}).selected, ElementsAre("a", "c"));
}

// A run that needs everybody may be started again until the client is mended.
TEST(BarredClient, IsNotCountedInRoundsThatAreTriedAgain) {
  RoundMachine m({.clients = {"a", "b"}, .rounds = 3, .quorum = 2});
  ASSERT_TRUE(m.apply(RunOpened{}));
  ASSERT_TRUE(m.apply(m.next_round({})));
  for (std::uint32_t i = 0; i < 2 * kRejectedMax; ++i) {
    EXPECT_TRUE(m.apply(UpdateRejected{1, "b", "holds a NaN"}));
    EXPECT_TRUE(m.hopeless(false));
    EXPECT_TRUE(m.apply(RoundReopened{1}));
  }
  EXPECT_TRUE(m.barred().empty());
  EXPECT_THAT(m.next_round({}).selected, ElementsAre("a", "b"));
}

// Who is left is never fewer than closed the round before.
TEST(BarredClient, LeavesAQuorum) {
  RoundMachine m({.clients = {"a", "b", "c"}, .rounds = 20, .quorum = 2});
  ASSERT_TRUE(m.apply(RunOpened{}));
  for (std::uint32_t i = 0; i < kRejectedMax; ++i) play<UpdateRejected>(m, "b");
  ASSERT_TRUE(m.apply(m.next_round({})));
  EXPECT_FALSE(m.hopeless(false));
}

}  // namespace
}  // namespace strata::coordinator

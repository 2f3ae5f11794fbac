// Federations under drawn faults end where the same federation without faults ends, and keep every
// promise on the way. STRATA_SIM_SEEDS=5000 runs more of them; STRATA_SIM_SEED=17 one.
#include <gtest/gtest.h>

#include <cstdlib>

#include "sim/world.h"

namespace strata::sim {
namespace {

std::uint64_t number(const char* name, std::uint64_t otherwise) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing sets it
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::strtoull(value, nullptr, 10);
}

Verdict hold(const Scenario& scenario) {
  SCOPED_TRACE(scenario.line());
  Verdict verdict = run(scenario);
  for (const auto& violation : verdict.violations) ADD_FAILURE() << violation;
  if (!scenario.all_contribute() || !verdict.violations.empty()) return verdict;
  const Verdict calm = run(scenario.calm());
  EXPECT_TRUE(calm.violations.empty()) << calm.violations.front();
  EXPECT_EQ(hex(verdict.chain), hex(calm.chain)) << "the faults changed the model";
  return verdict;
}

/// What hit how often, over seeds: a fault that hits nothing tests nothing.
struct Hits {
  std::size_t rotten = 0, conflicts = 0, stale = 0, put_back = 0, found = 0, refusals = 0, slow = 0;
  double waited = 0.0;

  void add(const Verdict& v) {
    rotten += v.rotten, conflicts += v.conflicts, stale += v.stale_refusals;
    put_back += v.put_back, found += v.found_put_back, refusals += v.refusals, slow += v.too_slow;
    waited += v.waited;
  }
};

TEST(Simulation, EverySeedKeepsEveryPromise) {
  const std::uint64_t only = number("STRATA_SIM_SEED", 0);
  const std::uint64_t first = only != 0 ? only : 1;
  const std::uint64_t last = only != 0 ? only : number("STRATA_SIM_SEEDS", 300);
  std::size_t failed = 0;
  Hits hits;
  for (std::uint64_t seed = first; seed <= last && failed < 3; ++seed) {
    hits.add(hold(Scenario::draw(seed)));
    if (HasFailure()) ++failed;
  }
  if (last - first >= 299 && failed == 0) {
    EXPECT_GT(hits.rotten, 10u) << "flipped bits";
    EXPECT_GT(hits.conflicts, 50u) << "second updates of a round";
    EXPECT_GT(hits.stale, 50u) << "clients with an older plan";
    EXPECT_GT(hits.put_back, 20u) << "older copies of ledgers";
    EXPECT_GT(hits.found, 10u) << "of those, noticed";
    EXPECT_GT(hits.refusals, 30u) << "rounds that a ledger does not pay for";
    EXPECT_GT(hits.slow, 5u) << "connections with too much queued";
    EXPECT_GT(hits.waited, 1000.0) << "seconds of waiting for disks";
  }
}

TEST(Simulation, OneSeedIsOneHistory) {
  std::size_t with_ledgers = 0;
  for (const std::uint64_t seed : {3u, 7u, 19u, 40u, 41u, 42u, 43u, 44u}) {
    const Scenario scenario = Scenario::draw(seed);
    if (scenario.private_clients) ++with_ledgers;
    EXPECT_EQ(hex(run(scenario).log), hex(run(scenario).log)) << scenario.line();
  }
  EXPECT_GT(with_ledgers, 0u) << "no seed has the randomness of ledgers in it";
}

// Nothing of what happens depends on what the wall clocks say.
TEST(Simulation, WallClocksThatJumpChangeNothing) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    Scenario scenario = Scenario::draw(seed);
    scenario.wall_jumps = true;
    const Verdict jumping = run(scenario);
    scenario.wall_jumps = false;
    EXPECT_EQ(hex(jumping.log), hex(run(scenario).log)) << scenario.line();
  }
}

TEST(Simulation, ACalmRunEndsSoonWithoutACrash) {
  const Verdict verdict = run(Scenario{.seed = 1, .clients = 5, .rounds = 6});
  EXPECT_TRUE(verdict.finished);
  EXPECT_EQ(verdict.crashes, 0u);
  EXPECT_TRUE(verdict.violations.empty());
  EXPECT_LT(verdict.time, 6 * 4.0);
}

// A coordinator that hides single clients pays for each draw of noise before it draws, and whatever
// ends it, a round's result is one: told only once it is kept, and the same ever after.
TEST(Simulation, NoNoiseIsDrawnUnpaidAndNoRoundIsToldTwice) {
  std::size_t charges = 0, rounds = 0, taken_up = 0;
  for (std::uint64_t seed = 1; seed <= 80; ++seed) {
    Scenario scenario = Scenario::draw(seed);
    scenario.method = "zero_pad";
    scenario.restart = "fresh";
    scenario.hides_clients = true;
    scenario.rot_every = 0.0;
    scenario.crash_at_call = 0.2;
    SCOPED_TRACE(scenario.line());
    const Verdict verdict = run(scenario);
    for (const auto& violation : verdict.violations) ADD_FAILURE() << violation;
    charges += verdict.charges;
    taken_up += verdict.taken_up;
    rounds += scenario.rounds;
    if (HasFailure()) return;
  }
  EXPECT_GT(charges, rounds + 10) << "few ended between charge and result";
  EXPECT_GT(taken_up, 5u) << "few ended between result and commitment";
}

// Nobody comes: the round closes all the same, with noise.
TEST(Simulation, ARoundOfNobodyIsNoiseWhereClientsAreHidden) {
  Scenario scenario{.seed = 3, .clients = 2, .rounds = 2};
  scenario.method = "zero_pad";
  scenario.hides_clients = true;
  for (const char* client : {"c0", "c1"}) scenario.spoilt[client][2] = Spoilt::kFails;
  const Verdict verdict = run(scenario);
  for (const auto& violation : verdict.violations) ADD_FAILURE() << violation;
  EXPECT_TRUE(verdict.finished);
  EXPECT_EQ(verdict.charges, 2u);
  EXPECT_EQ(verdict.draws, 2u);
}

// The tests of the simulation itself: a fault that breaks the promise is seen.
TEST(Simulation, ADiskThatLiesAboutFlushesIsFoundOut) {
  std::size_t found = 0;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Scenario scenario{.seed = seed, .clients = 4, .rounds = 6};
    scenario.crash_every = 4.0;
    scenario.machine_share = 1.0;
    scenario.lying_disk = true;
    if (!run(scenario).violations.empty()) ++found;
  }
  EXPECT_GT(found, 10u);
}

}  // namespace
}  // namespace strata::sim

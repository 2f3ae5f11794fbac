// Federations under drawn faults end where the same federation without faults ends, and keep every
// promise on the way. STRATA_SIM_SEEDS=5000 runs more of them; STRATA_SIM_SEED=17 one.
#include <gtest/gtest.h>

#include <cstdlib>

#include "sim/world.h"

namespace strata::sim {
namespace {

std::uint64_t number(const char* name, std::uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::strtoull(value, nullptr, 10);
}

void hold(const Scenario& scenario) {
  SCOPED_TRACE(scenario.line());
  const Verdict verdict = run(scenario);
  for (const auto& violation : verdict.violations) ADD_FAILURE() << violation;
  if (!scenario.all_contribute() || !verdict.violations.empty()) return;
  const Verdict calm = run(scenario.calm());
  EXPECT_TRUE(calm.violations.empty()) << calm.violations.front();
  EXPECT_EQ(hex(verdict.chain), hex(calm.chain)) << "the faults changed the model";
}

TEST(Simulation, EverySeedKeepsEveryPromise) {
  const std::uint64_t only = number("STRATA_SIM_SEED", 0);
  const std::uint64_t first = only != 0 ? only : 1;
  const std::uint64_t last = only != 0 ? only : number("STRATA_SIM_SEEDS", 300);
  std::size_t failed = 0;
  for (std::uint64_t seed = first; seed <= last && failed < 3; ++seed) {
    hold(Scenario::draw(seed));
    if (HasFailure()) ++failed;
  }
}

TEST(Simulation, OneSeedIsOneHistory) {
  for (const std::uint64_t seed : {3u, 7u, 19u, 40u}) {
    const Scenario scenario = Scenario::draw(seed);
    EXPECT_EQ(hex(run(scenario).log), hex(run(scenario).log)) << scenario.line();
  }
}

TEST(Simulation, ACalmRunEndsSoonWithoutACrash) {
  const Verdict verdict = run(Scenario{.seed = 1, .clients = 5, .rounds = 6});
  EXPECT_TRUE(verdict.finished);
  EXPECT_EQ(verdict.crashes, 0u);
  EXPECT_TRUE(verdict.violations.empty());
  EXPECT_LT(verdict.time, 6 * 4.0);
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

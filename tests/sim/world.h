#pragma once
// A whole federation in one thread and virtual time: the real coordinator and the real sessions,
// with a simulated disk, network, clock and training, and faults drawn from a seed. What happened
// is written down and checked against what must always hold.
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "client/session.h"
#include "coordinator/server.h"
#include "sim/disk.h"
#include "sim/scenario.h"

namespace strata::sim {

struct Verdict {
  bool finished = false;
  double time = 0.0;  // virtual seconds
  Sha256 chain{};     // of the final model
  Sha256 log{};       // of everything that happened
  std::vector<std::string> violations;
  std::size_t crashes = 0;
  std::size_t rotten = 0;  // flipped bits
  std::uint64_t frames = 0;
  std::size_t charges = 0, draws = 0, taken_up = 0;  // of a coordinator that hides clients
};

/// Runs it to its end, or to where it must have ended by.
[[nodiscard]] Verdict run(const Scenario& scenario);

}  // namespace strata::sim

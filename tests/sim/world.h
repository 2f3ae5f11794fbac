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
  double waited = 0.0;                               // seconds, for slow disks
  std::size_t conflicts = 0;                         // second updates that were refused
  std::size_t stale_refusals = 0;                    // of a client with an older plan
  std::size_t put_back = 0;                          // ledgers
  std::size_t found_put_back = 0;                    // of those, noticed
  std::size_t refusals = 0;                          // rounds that a ledger did not pay for
  std::size_t too_slow = 0;                          // connections with too much queued
  std::size_t charges = 0, draws = 0, taken_up = 0;  // of a coordinator that hides clients
};

/// Runs it to its end, or to where it must have ended by.
[[nodiscard]] Verdict run(const Scenario& scenario);

}  // namespace strata::sim

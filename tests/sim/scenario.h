#pragma once
// What happens to a simulated federation: its shape and its faults, drawn from a seed.
#include <cstdint>
#include <map>
#include <string>

#include "sim/network.h"
#include "sim/worker.h"

namespace strata::sim {

/// What may go wrong in a run, and its shape. Every seed draws some of it.
struct Scenario {
  std::uint64_t seed = 0;
  std::size_t clients = 3;
  std::uint32_t rounds = 4;
  std::uint32_t per_round = 0;
  std::uint32_t quorum = 0;  // 0: all that are drawn
  double deadline = 0.0;
  std::string method = "flora";
  std::string restart = "fresh";
  bool hides_clients = false;  // the mean is noised, and a round may close with nobody
  // Faults, until `faults_end`.
  double faults_end = 120.0;
  double crash_every = 0.0;    // seconds between ends of processes; 0: none
  double machine_share = 0.0;  // of them, falls of the machine
  double crash_at_call = 0.0;  // chance of an end at a change of the disk
  double full_every = 0.0;     // seconds between times of a full disk
  double broken_every = 0.0;   // seconds between disk errors
  double flush_fails = 0.0;    // chance of a failure of each flush alone
  double cut_every = 0.0;      // seconds between cuts of a client's link
  bool cut_all = false;
  double rot_every = 0.0;   // seconds between flipped bits in the open round's updates
  bool lying_disk = false;  // for the test of the tests: flushes do nothing
  std::uint64_t piece = 0;  // bytes in which updates and results travel; 0: with their message
  NetworkFaults network;
  std::map<std::string, std::map<std::uint32_t, Spoilt>> spoilt;

  /// Without any fault.
  [[nodiscard]] Scenario calm() const;
  /// Drawn: shape and faults.
  [[nodiscard]] static Scenario draw(std::uint64_t seed);
  /// Every honest client contributes to every round, whatever happens.
  [[nodiscard]] bool all_contribute() const { return deadline == 0.0 && quorum == 0; }
  [[nodiscard]] std::string line() const;
};

}  // namespace strata::sim

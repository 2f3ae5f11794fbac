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
  // Faults, until `faults_end`.
  double faults_end = 120.0;
  double crash_every = 0.0;      // seconds between ends of processes; 0: none
  double machine_share = 0.0;    // of them, falls of the machine
  double crash_at_call = 0.0;    // chance of an end at a change of the disk
  double full_every = 0.0;       // seconds between times of a full disk
  double broken_every = 0.0;     // seconds between disk errors
  double flush_fails = 0.0;      // chance of a failure of each flush alone
  double cut_every = 0.0;        // seconds between cuts of a client's link
  double rot_every = 0.0;        // seconds between flipped bits in the open round's updates
  double copy_back_every = 0.0;  // seconds between old copies of ledgers put back
  double slow_disk = 0.0;        // seconds of a flush, about
  std::string equivocates;       // this client sends two updates for each round
  std::string stale;             // this client comes with an older plan, until it is told twice
  // Of private clients: how many rounds a ledger can pay for.
  std::map<std::string, std::size_t> affordable;  // absent: more than there are
  std::uint64_t piece = 0;  // bytes in which updates and results travel; 0: with their message
  NetworkFaults network;
  std::map<std::string, std::map<std::uint32_t, Spoilt>> spoilt;
  bool hides_clients = false;    // the mean is noised, and a round may close with nobody
  bool cut_all = false;          // cuts are of all links
  bool lying_disk = false;       // for the test of the tests: flushes do nothing
  bool wall_jumps = false;       // wall clocks go an hour forward or back
  bool stale_blindly = false;    // `stale` does not look at the plan it is given
  bool private_clients = false;  // each has a ledger

  /// Without any fault.
  [[nodiscard]] Scenario calm() const;
  /// Drawn: shape and faults.
  [[nodiscard]] static Scenario draw(std::uint64_t seed);
  /// Every honest client contributes to every round, whatever happens.
  [[nodiscard]] bool all_contribute() const {
    // Fresh noise is other noise, and of two updates either may come first.
    return deadline == 0.0 && quorum == 0 && !private_clients && equivocates.empty();
  }
  [[nodiscard]] std::string line() const;
  /// Of the client with that number.
  [[nodiscard]] static std::string name_of(std::size_t client);

 private:
  void draw_budgets(sys::Stream& draw);
};

}  // namespace strata::sim

#include "sim/scenario.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace strata::sim {

std::string Scenario::name_of(std::size_t client) { return fmt::format("c{}", client); }

Scenario Scenario::calm() const {
  Scenario out = *this;
  out.crash_every = out.crash_at_call = out.full_every = out.broken_every = out.cut_every = 0.0;
  out.rot_every = out.flush_fails = out.copy_back_every = out.slow_disk = 0.0;
  out.wall_jumps = false;
  out.stale.clear();
  out.network = {};
  return out;
}

Scenario Scenario::draw(std::uint64_t seed) {
  sys::Stream draw = sys::Stream(seed).at({.purpose = "scenario"});
  const auto sometimes = [&](double share, double low, double high) {
    return draw.uniform() < share ? draw.uniform(low, high) : 0.0;
  };
  Scenario out{.seed = seed};
  out.clients = 3 + draw.below(5);
  out.rounds = static_cast<std::uint32_t>(2 + draw.below(6));
  out.method =
      std::vector<std::string>{"flora", "flora", "flora", "zero_pad", "fedavg"}[draw.below(5)];
  out.restart = out.method == "flora" && draw.below(2) == 0 ? "keep" : "fresh";
  if (draw.below(2) == 0) {  // stragglers are left behind
    out.deadline = draw.uniform(4.0, 20.0);
    out.quorum = static_cast<std::uint32_t>(1 + draw.below(2));
    if (draw.below(2) == 0)
      out.per_round = static_cast<std::uint32_t>(2 + draw.below(out.clients - 1));
  }
  out.crash_every = sometimes(0.6, 2.0, 20.0);
  out.machine_share = sometimes(0.7, 0.2, 1.0);
  out.crash_at_call = sometimes(0.5, 0.002, 0.05);
  out.full_every = sometimes(0.3, 10.0, 60.0);
  out.broken_every = sometimes(0.2, 15.0, 60.0);
  out.cut_every = sometimes(0.4, 10.0, 60.0);
  out.cut_all = draw.below(3) == 0;
  out.rot_every = sometimes(0.15, 10.0, 60.0);
  out.flush_fails = sometimes(0.3, 0.002, 0.1);
  out.network.delay = draw.uniform(0.001, 0.3);
  out.network.break_chance = sometimes(0.5, 0.001, 0.1);
  out.network.lost_end = sometimes(0.5, 0.0, 1.0);
  if (draw.below(4) == 0) {
    out.quorum = std::min(out.quorum, 1u);
    const auto kinds = {Spoilt::kNan, Spoilt::kRank, Spoilt::kTensor, Spoilt::kFails};
    const auto round = static_cast<std::uint32_t>(1 + draw.below(out.rounds));
    out.spoilt["c1"][round] = *(kinds.begin() + static_cast<std::ptrdiff_t>(draw.below(4)));
  }
  if (draw.below(2) == 0) out.piece = 64 + draw.below(512);
  out.slow_disk = sometimes(0.3, 0.01, 1.0);
  out.wall_jumps = draw.below(2) == 0;
  if (draw.below(4) == 0) {
    out.network.slow = 50.0 * std::exp2(draw.uniform(0.0, 5.0));
    for (std::size_t i = 0; i < out.clients; ++i)
      if (draw.below(2) == 0) out.network.slow_clients.insert(name_of(i));
  }
  if (draw.below(5) == 0) {
    out.stale = name_of(draw.below(out.clients));
    out.stale_blindly = draw.below(2) == 0;
  }
  if (draw.below(3) == 0) {
    out.draw_budgets(draw);
  } else if (draw.below(3) == 0) {
    out.equivocates = name_of(draw.below(out.clients));
  }
  return out;
}

// One client at least can always pay; rounds that need others as well might never close.
void Scenario::draw_budgets(sys::Stream& draw) {
  private_clients = true;
  if (draw.below(2) == 0) copy_back_every = draw.uniform(2.0, 10.0);
  // Some offers come late; in pieces they would never come in time.
  if (deadline > 0.0 && piece == 0) deadline = draw.uniform(3.0, 6.0);
  if (draw.below(2) == 0) return;
  for (std::size_t i = 1; i < clients; ++i)
    if (draw.below(2) == 0) affordable[name_of(i)] = 1 + draw.below(rounds);
  per_round = 0;
  quorum = std::min(quorum, 1u);
}

std::string Scenario::line() const {
  return fmt::format(
      "seed {}: {} clients, {} rounds, {} {}, per round {}, quorum {}, deadline {:.1f}; crashes "
      "every {:.1f} ({:.0f} % of machines), at calls {:.3f}, full {:.1f}, broken {:.1f}, flushes "
      "{:.3f}, cut {:.1f}{}, rot {:.1f}, breaks {:.3f}, silent {:.2f}, spoilt {}, pieces {}, "
      "slow disk {:.2f}, slow links {:.0f} of {}, stale {}{}, two-faced {}{}, put back {:.1f}, "
      "poor {}",
      seed, clients, rounds, method, restart, per_round, quorum, deadline, crash_every,
      100 * machine_share, crash_at_call, full_every, broken_every, flush_fails, cut_every,
      cut_all ? " all" : "", rot_every, network.break_chance, network.lost_end, spoilt.size(),
      piece, slow_disk, network.slow, network.slow_clients.size(), stale,
      stale_blindly ? " blindly" : "", equivocates, private_clients ? ", private" : "",
      copy_back_every, affordable.size());
}

}  // namespace strata::sim

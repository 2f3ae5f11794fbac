#include "sim/federation.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

namespace strata::sim {

std::size_t rank_of(std::size_t client, const std::string& method) {
  return method == "fedavg" ? 2 : 1 + client % 4;
}

Federation::Federation(const Scenario& s)
    : s_(s),
      time_(s.seed),
      draw_(sys::Stream(s.seed).at({.purpose = "faults"})),
      network_(time_, sys::Stream(s.seed).at({.purpose = "network"})) {
  for (std::size_t i = 0; i < s.clients; ++i) names_.push_back(Scenario::name_of(i));
}

Federation::~Federation() = default;

void Federation::note(const std::string& what) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing sets it
  if (std::getenv("STRATA_SIM_LOG") != nullptr)
    fmt::print(stderr, "{:10.3f} {}\n", time_.seconds(), what);
  log_.add(fmt::format("{:.9f} {}\n", time_.seconds(), what));
}

void Federation::violated(const std::string& what) {
  if (verdict_.violations.size() < 5)
    verdict_.violations.push_back(fmt::format("{:.3f}: {}", time_.seconds(), what));
}

void Federation::prepare_machines() {
  for (std::size_t p = 0; p <= names_.size(); ++p) {
    machines_[p] =
        std::make_unique<Machine>(time_, sys::Stream(s_.seed).at({.purpose = "disk", .item = p}));
    Machine& machine = *machines_[p];
    machine.disk.lies = s_.lying_disk;
    if (p == kCoordinator || !s_.private_clients) continue;
    const auto poor = s_.affordable.find(name_of(p));
    owners_[p] =
        std::make_unique<Owner>(name_of(p), machine.disk, machine.clock,
                                poor == s_.affordable.end() ? 0 : poor->second, complain());
  }
}

void Federation::watch_network() {
  network_.faults = s_.network;
  network_.client_sends = [this](const auto& client, const auto& frame) {
    watch_offer(client, frame);
  };
  network_.coordinator_sends = [this](const auto& client, const auto& frame) {
    const auto message = protocol::from_frame(frame);
    const auto* ack = message ? std::get_if<protocol::Ack>(&*message) : nullptr;
    for (auto& [p, owner] : owners_)
      if (ack != nullptr && name_of(p) == client) owner->answered(ack->update);
  };
  network_.aside = [this](const auto& client, const auto& frame) -> std::optional<Network::Aside> {
    return client == s_.equivocates ? second_offer(frame) : std::nullopt;
  };
}

// Nothing of an update leaves unpaid, and none that was trained for another plan.
void Federation::watch_offer(const protocol::ClientId& client, const wire::Frame& frame) {
  const auto message = protocol::from_frame(frame);
  const auto* offer = message ? std::get_if<protocol::Offer>(&*message) : nullptr;
  if (offer == nullptr) return;
  for (std::size_t p = 1; p <= names_.size(); ++p) {
    if (name_of(p) != client) continue;
    if (is_stale(p)) violated(client + " takes part with another plan");
    if (Owner* owner = owner_of(p)) owner->leaves(offer->update.hash);
  }
}

std::optional<Network::Aside> Federation::second_offer(const wire::Frame& frame) {
  auto message = protocol::from_frame(frame);
  auto* offer = message ? std::get_if<protocol::Offer>(&*message) : nullptr;
  if (offer == nullptr) return std::nullopt;
  const auto other = seen_.others.find(offer->update.hash);
  if (other == seen_.others.end()) return std::nullopt;
  offer->update = {
      .hash = sha256(other->second), .size = other->second.size(), .data = other->second};
  return Network::Aside{.frame = protocol::to_frame(*message, frame.header.run),
                        .first = draw_.below(2) == 0};
}

Verdict Federation::run() {
  prepare_machines();
  watch_network();
  plan_faults();
  time_.at(0.0, [this] { start_coordinator(); });
  for (std::size_t i = 1; i <= names_.size(); ++i)
    time_.at(draw_.uniform(0.0, 2.0), [this, i] { start_client(i); });
  const double latest = s_.faults_end + 300.0 + (s_.deadline + 200.0) * s_.rounds;
  // Clients that were away at the end find nobody: the coordinator's end is the run's.
  while (!finished_[kCoordinator] && time_.seconds() < latest && verdict_.violations.empty()) {
    if (!time_.step()) break;
    while (!doomed_.empty()) doomed_.extract(doomed_.begin()).mapped()();
  }
  verdict_.finished = finished_[kCoordinator];
  verdict_.time = time_.seconds();
  if (!verdict_.finished && verdict_.violations.empty())
    violated(fmt::format("no end after {:.0f} s", latest));
  if (verdict_.violations.empty()) check_all();
  sum_up();
  clients_.clear();
  coordinator_.reset();
  verdict_.log = log_.finish();
  return verdict_;
}

void Federation::check_all() {
  Disk& disk = machines_.at(kCoordinator)->disk;
  check_history(s_, seen_, disk, complain());
  check_held(s_, network_.held(), complain());
  check_files(disk, "/run/state/", complain());
  for (auto& [p, owner] : owners_) owner->check();
  // Where the disk refused to remove something, the next start does.
  for (std::size_t p = 1; p <= names_.size(); ++p) {
    if (finished_[p] && s_.broken_every == 0.0)
      check_files(machines_.at(p)->disk, "/client/", complain());
  }
  if (s_.hides_clients) check_accounts();
}

// One result a round was told, the committed one, and each draw of noise was paid for.
void Federation::check_accounts() {
  for (const auto& violation : accounts_.violations) violated(violation);
  for (const auto& round : seen_.committed) {
    const auto& own = accounts_.rounds[round.round];
    if (own.told != round.result) violated(fmt::format("round {}: not what was kept", round.round));
    if (own.draws > own.charges)
      violated(
          fmt::format("round {}: {} draws for {} charges", round.round, own.draws, own.charges));
    verdict_.draws += own.draws;
    verdict_.charges += own.charges;
  }
  verdict_.taken_up = accounts_.taken_up;
}

void Federation::sum_up() {
  verdict_.chain = seen_.committed.empty() ? Sha256{} : seen_.committed.back().chain;
  verdict_.frames = network_.frames();
  verdict_.conflicts = seen_.conflicts;
  verdict_.too_slow = network_.held().too_slow;
  for (const auto& [p, owner] : owners_) verdict_.refusals += owner->refusals();
}

Verdict run(const Scenario& scenario) { return Federation(scenario).run(); }

}  // namespace strata::sim

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "coordinator/coordinator.h"
#include "sim/history.h"
#include "sim/tiny_model.h"

namespace strata::sim {
namespace {

using coordinator::RoundRecord;
using protocol::ClientId;
using Rounds = std::map<std::uint32_t, std::map<ClientId, Sha256>>;

std::string short_hex(const Sha256& hash) { return hex(hash).substr(0, 12); }

// A journal, by rounds.
struct Journaled {
  Rounds accepted;  // what lasted
  std::map<std::uint32_t, std::vector<ClientId>> contributors;
  std::vector<coordinator::RoundCommitted> committed;
  std::set<std::pair<std::uint32_t, ClientId>> lost_places;  // by a damaged disk
};

class Checks {
 public:
  Checks(const Scenario& s, History& seen, const Disk& disk, const Complain& complain)
      : s_(s), seen_(seen), disk_(disk), violated_(complain) {}

  void all() {
    auto raw =
        journal::Journal::read(disk_, "/run/state/journal/000001.log", coordinator::kRoundJournal);
    if (!raw) return violated_("the journal cannot be read: " + raw.error().line());
    for (const auto& record : *raw) {
      auto r = coordinator::round_record(record);
      if (!r) return violated_(r.error().line());
      take(*r);
    }
    check_rounds();
    check_promises();
    check_conflicts();
    check_results();
    if (!seen_.final_model || seen_.final_model->state_hash() != seen_.final_state)
      return violated_("the journal names another final model");
    check_sum();
    if (!s_.hides_clients) check_chain();
  }

 private:
  void take(const RoundRecord& record) {
    if (const auto* opened = std::get_if<coordinator::RoundOpened>(&record)) {
      const Sha256 before =
          journaled_.committed.empty() ? Sha256{} : journaled_.committed.back().chain;
      if (opened->round > 1 && opened->base != before)
        violated_(fmt::format("round {} does not begin where the one before ended", opened->round));
    } else if (const auto* u = std::get_if<coordinator::UpdateAccepted>(&record)) {
      if (!journaled_.accepted[u->round].emplace(u->client, u->update).second)
        violated_(fmt::format("{} twice in round {}", u->client, u->round));
    } else if (const auto* lost = std::get_if<coordinator::UpdateLost>(&record)) {
      journaled_.accepted[lost->round].erase(lost->client);
      journaled_.lost_places.emplace(lost->round, lost->client);
    } else if (const auto* c = std::get_if<coordinator::RoundClosed>(&record)) {
      journaled_.contributors[c->round] = c->contributors;
      if (!s_.hides_clients && c->contributors.size() < std::max(1u, s_.quorum))
        violated_(fmt::format("round {} without its quorum", c->round));
    } else if (const auto* r = std::get_if<coordinator::RoundCommitted>(&record)) {
      journaled_.committed.push_back(*r);
    }
  }

  // Whoever was told of a round was told the same, and it is what is written.
  void check_rounds() {
    const auto& committed = journaled_.committed;
    const auto same = [&](std::uint32_t round, const Sha256& chain) {
      return round <= committed.size() && committed[round - 1].chain == chain;
    };
    if (committed.size() != s_.rounds) violated_("not every round is committed");
    for (const auto& told : seen_.committed) {
      if (!same(told.round, told.chain))
        violated_(fmt::format("round {} is not the one that was announced", told.round));
    }
    for (const auto& [client, head] : seen_.models) {
      if (!same(head.round, head.chain))
        violated_(fmt::format("{} has another model after round {}", client, head.round));
    }
  }

  // Who was told "accepted" was used, once.
  void check_promises() {
    for (const auto& [client, ack] : seen_.acks) {
      const bool promised = ack.outcome == protocol::Outcome::kAccepted ||
                            ack.outcome == protocol::Outcome::kDuplicate;
      if (!promised || journaled_.lost_places.contains({ack.round, client})) continue;
      const auto& used = journaled_.contributors[ack.round];
      if (std::find(used.begin(), used.end(), client) == used.end() ||
          journaled_.accepted[ack.round][client] != ack.update)
        violated_(fmt::format("{} was promised a place in round {}", client, ack.round));
    }
  }

  // Of two updates of one client the second is refused, and both are named to whoever reads on.
  void check_conflicts() {
    for (const auto& [client, ack] : seen_.acks) {
      const auto& accepted = journaled_.accepted[ack.round];
      const auto first = accepted.find(client);
      if (ack.outcome != protocol::Outcome::kRejected || first == accepted.end() ||
          first->second == ack.update || journaled_.lost_places.contains({ack.round, client}))
        continue;
      ++seen_.conflicts;
      const auto names = [&, first = first->second, second = ack.update,
                          who = client](const std::string& line) {
        return line.starts_with(who + ": ") && line.find(short_hex(first)) != std::string::npos &&
               line.find(short_hex(second)) != std::string::npos;
      };
      if (std::none_of(seen_.noticed.begin(), seen_.noticed.end(), names))
        violated_(
            fmt::format("nobody hears of the two updates of {} in round {}", client, ack.round));
    }
  }

  void check_results() {
    for (const auto& round : journaled_.committed) {
      const auto file = disk_.read_text(fmt::format("/run/state/results/{:04}", round.round));
      if (!file || sha256(bytes_of(*file)) != round.result)
        violated_(fmt::format("the result of round {} is not what was committed", round.round));
    }
  }

  [[nodiscard]] const protocol::Update* update_of(std::uint32_t round, const ClientId& client) {
    const auto made = seen_.made.find(journaled_.accepted[round][client]);
    if (made != seen_.made.end()) return &made->second;
    violated_("an update was used that nobody made for use");
    return nullptr;
  }

  // The final model is the base plus the weighted sum of exactly the listed updates, by a slow
  // computation of its own (flora only; averages of factors have no such sum).
  void check_sum() {
    if (s_.method != "flora") return;
    const model::Model base = tiny_model(s_.seed);
    std::map<std::string, std::vector<double>> sum;
    for (const auto& layer : layers()) sum[layer.name].resize(layer.d_out * layer.d_in);
    for (const auto& [round, contributors] : journaled_.contributors) {
      double total = 0.0;
      for (const auto& c : contributors) {
        const auto* update = update_of(round, c);
        if (update == nullptr) return;
        total += update->weight;
      }
      for (const auto& c : contributors) {
        const auto* update = update_of(round, c);
        for (const auto& [name, delta] : update->delta)
          adapter::add_dense(delta, update->weight / total, sum[name]);
      }
    }
    for (const auto& layer : layers()) {
      const auto& before = base.parameters()[base.find(layer.name)];
      const auto& after = seen_.final_model->parameters()[seen_.final_model->find(layer.name)];
      std::vector<float> w0(before.size()), w1(after.size());
      before.copy_values(w0);
      after.copy_values(w1);
      for (std::size_t i = 0; i < w0.size(); ++i) {
        const double expected = static_cast<double>(w0[i]) + sum[layer.name][i];
        if (std::abs(expected - static_cast<double>(w1[i])) > 1e-6)
          return violated_(
              fmt::format("{} value {} is {}, not {}", layer.name, i, w1[i], expected));
      }
    }
  }

  // Where only the listed updates were ever sent, every byte is the same: what was refused, came
  // late or was lost has left no trace.
  void check_chain() {
    auto core = coordinator::Coordinator::make(
        {.method = s_.method, .restart = s_.restart, .rounds = s_.rounds, .measure = false},
        tiny_model(s_.seed));
    if (!core) throw std::logic_error(core.error().line());
    for (const auto& round : journaled_.committed) {
      for (const auto& c : journaled_.contributors[round.round]) {
        const auto* update = update_of(round.round, c);
        if (update == nullptr) return;
        if (auto taken = core->accept(*update); !taken) return violated_(taken.error().line());
      }
      auto report = core->close();
      if (!report) return violated_(report.error().line());
      if (report->chain != round.chain)
        return violated_(fmt::format("round {} is not what its updates come to", round.round));
    }
  }

  const Scenario& s_;
  History& seen_;
  const Disk& disk_;
  const Complain& violated_;
  Journaled journaled_;
};

}  // namespace

void check_history(const Scenario& scenario, History& history, const Disk& coordinator,
                   const Complain& complain) {
  Checks(scenario, history, coordinator, complain).all();
  for (const auto& path : coordinator.all_files()) {
    if (path.starts_with("/run/state/updates/")) complain("left over: " + path);
  }
}

void check_held(const Scenario& scenario, const Network::Held& held, const Complain& complain) {
  constexpr std::size_t kWords = 1024;  // of a message without the object that it may carry
  const std::size_t frame_max = kWords + (scenario.piece > 0 ? scenario.piece : 8192);
  if (held.frame > frame_max) complain(fmt::format("a frame of {} bytes was sent", held.frame));
  if (held.queued > kQueueMax + frame_max)
    complain(fmt::format("{} bytes were queued for one connection", held.queued));
  // Two pieces ahead of what has come, and the one that goes beyond.
  if (scenario.piece > 0 && held.asked > 3 * scenario.piece)
    complain(fmt::format("{} bytes of an update were asked for at once", held.asked));
}

void check_files(const Disk& disk, const std::string& place, const Complain& complain) {
  for (const auto& path : disk.all_files()) {
    if (!path.starts_with(place)) complain("a file outside of " + place + ": " + path);
    if (path.find(".tmp.") != std::string::npos || path.ends_with("/download"))
      complain("left behind: " + path);
  }
}

}  // namespace strata::sim

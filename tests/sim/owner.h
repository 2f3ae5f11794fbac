#pragma once
// The data owner of one simulated client that trains privately: the real ledger on the client's
// disk, read over again by this class's own means, and what it must say of what has left. Lives as
// long as the federation, as an owner does; processes come and go.
#include <memory>
#include <set>
#include <string>

#include "client/budget.h"
#include "coordinator/server.h"
#include "privacy/ledger/ledger.h"
#include "sim/executor.h"
#include "sim/history.h"

namespace strata::sim {

class Owner {
 public:
  /// `affordable`: rounds that the ledger pays for; 0: more than there are. Disk and clock outlive
  /// it.
  Owner(std::string client, Disk& disk, const MachineClock& clock, std::size_t affordable,
        Complain complain);

  /// The ledger as a process of the client opens it, begun where it is not there yet.
  [[nodiscard]] Result<std::unique_ptr<client::Budget>> open();

  /// An update, or its name, is on its way out.
  void leaves(const Sha256& update);
  /// The coordinator has answered for it: it knows how far the ledger was then.
  void answered(const Sha256& update) { answered_.insert(update); }
  /// After the end of a process, however it ended.
  void check();

  /// Puts a copy in the ledger's place that is so many lines older; false: there is none with a
  /// charge in it.
  bool put_back(std::size_t lines);
  /// Puts the newest one back; false: there is none, or the older one was written on.
  bool restore();
  [[nodiscard]] bool rolled_back() const { return rolled_back_; }
  [[nodiscard]] std::size_t refusals() const { return refusals_; }

 private:
  class Counted;
  [[nodiscard]] ledger::Tools tools() const;
  [[nodiscard]] Result<ledger::Ledger> find_ledger();

  std::string client_;
  Disk& disk_;
  const MachineClock& clock_;
  std::size_t affordable_;
  Complain complain_;
  std::size_t granted_ = 0;  // charges that were confirmed
  std::size_t refusals_ = 0;
  std::set<Sha256> left_, answered_;
  std::string newest_;  // in whose place a copy was put
  bool rolled_back_ = false;
};

/// What a simulated coordinator remembers of its clients' ledgers; outlives its processes.
class SeenLedgers final : public coordinator::LedgerMemory {
 public:
  protocol::LedgerMark of(const protocol::ClientId& client, const Sha256& ledger) const override {
    const auto found = seen_.find({client, ledger});
    return found == seen_.end() ? protocol::LedgerMark{} : found->second;
  }
  bool knows_another(const protocol::ClientId& client, const Sha256& ledger) const override {
    const auto first = seen_.lower_bound({client, Sha256{}});
    return first != seen_.end() && first->first.first == client &&
           !seen_.contains({client, ledger});
  }
  Result<void> keep(const protocol::ClientId& client, const protocol::LedgerMark& mark) override {
    auto& kept = seen_[{client, mark.ledger}];
    if (kept.records < mark.records) kept = mark;
    return {};
  }

 private:
  std::map<std::pair<protocol::ClientId, Sha256>, protocol::LedgerMark> seen_;
};

}  // namespace strata::sim

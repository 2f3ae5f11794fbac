#include "client/ledger_budget.h"

#include <fmt/format.h>

#include <mutex>
#include <utility>

namespace strata::client {
namespace {

class LedgerBudget final : public Budget {
 public:
  LedgerBudget(std::unique_ptr<sys::Clock> clock, ledger::Ledger ledger, ledger::Reservation round)
      : clock_(std::move(clock)), ledger_(std::move(ledger)), round_(std::move(round)) {
    note();
  }

  Result<void> reserve(const protocol::RunId& run, std::uint32_t round) override {
    const std::lock_guard lock(mutex_);
    ledger::Reservation reservation = round_;
    reservation.run = ledger_name(run);
    reservation.round = round;
    auto receipt = ledger_.reserve(reservation);
    note();
    return receipt ? Result<void>{} : fail(std::move(receipt).error());
  }
  Result<void> release(const protocol::RunId& run, std::uint32_t round,
                       const Sha256& update) override {
    const std::lock_guard lock(mutex_);
    auto released = ledger_.release(round_.dataset, ledger_name(run), round, update);
    note();
    return released;
  }

  // Does not wait for a charge that is being worked out.
  Result<protocol::LedgerMark> mark() override {
    const std::lock_guard lock(mark_mutex_);
    return mark_;
  }
  Result<void> check_remembered(const protocol::LedgerMark& seen) override {
    const std::lock_guard lock(mutex_);
    if (seen.ledger != ledger_.id()) {
      return fail({.code = ErrorCode::kProtocol,
                   .what = "the coordinator reminds this client of another ledger than its own"});
    }
    return ledger_.check_remembered({.records = seen.records, .hash = seen.head});
  }

 private:
  void note() {
    const std::lock_guard lock(mark_mutex_);
    mark_ = {
        .ledger = ledger_.id(), .records = ledger_.head().records, .head = ledger_.head().hash};
  }

  std::mutex mark_mutex_;
  protocol::LedgerMark mark_;
  std::mutex mutex_;                   // training charges in a thread of its own
  std::unique_ptr<sys::Clock> clock_;  // the ledger's; may be null
  ledger::Ledger ledger_;
  ledger::Reservation round_;
};

}  // namespace

std::string ledger_name(const protocol::RunId& run) {
  std::string out;
  for (const std::byte b : run) out += fmt::format("{:02x}", std::to_integer<int>(b));
  return out;
}

std::unique_ptr<Budget> make_ledger_budget(std::unique_ptr<sys::Clock> clock, ledger::Ledger ledger,
                                           ledger::Reservation round) {
  return std::make_unique<LedgerBudget>(std::move(clock), std::move(ledger), std::move(round));
}

}  // namespace strata::client

#pragma once
// A budget that is kept in the data owner's ledger: what a session and its worker ask becomes a
// record there.
#include <memory>
#include <string>

#include "client/budget.h"
#include "privacy/ledger/ledger.h"
#include "sys/clock.h"

namespace strata::client {

/// How a ledger calls a run.
[[nodiscard]] std::string ledger_name(const protocol::RunId& run);

/// Charges each round to `ledger` as `round` has it, but for run and number. `clock`: the ledger's,
/// kept as long; null when somebody else keeps it. kDamaged, kIo, kDiskFull as Ledger.
[[nodiscard]] std::unique_ptr<Budget> make_ledger_budget(std::unique_ptr<sys::Clock> clock,
                                                         ledger::Ledger ledger,
                                                         ledger::Reservation round);

}  // namespace strata::client

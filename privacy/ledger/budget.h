#pragma once
// Whether charges stay below every cap that they touch. Pure.
#include <cstdint>
#include <optional>

#include "base/result.h"
#include "privacy/ledger/records.h"

namespace strata::ledger {

/// A cap that would be exceeded, the smallest of those.
struct Excess {
  std::string dataset;  // whose rows would go beyond
  std::string whose;    // the cap's owner; empty: the data set's own
  double epsilon = 0.0;
  double cap = 0.0;
  double delta = 0.0;
};

/// Of `times` such reservations on top of what is charged; absent when all caps hold. `state` knows
/// the data set. An epsilon that is no number exceeds every cap.
[[nodiscard]] Result<std::optional<Excess>> excess(const State& state, const Reservation& more,
                                                   std::uint64_t times,
                                                   const EpsilonOf& epsilon_of);

/// The most that any row of the data set has been through, at the set's own delta, with `more` on
/// top.
[[nodiscard]] Result<double> epsilon_of_dataset(const State& state, const std::string& dataset,
                                                const std::vector<Charge>& more,
                                                const EpsilonOf& epsilon_of);

/// "budget: dataset X would reach eps 8.31 > cap 8.00 (delta 1e-6) after round 12; 11 rounds fit".
[[nodiscard]] Error over_budget(const Excess& excess, std::uint64_t round, std::uint64_t fit);

}  // namespace strata::ledger

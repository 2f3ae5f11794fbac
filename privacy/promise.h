#pragma once
// What a `privacy` section promises, in numbers: how much noise there is and which (epsilon, delta)
// follows from it. Worked out before any data is touched, from public numbers only, and the same on
// every side.
// Threads: values.
#include <cstdint>
#include <string>
#include <vector>

#include "privacy/accountant/accountant.h"
#include "privacy/privacy_config.h"

namespace strata::privacy {

/// Releases of one client in the whole run.
struct Schedule {
  std::int64_t per_round = 1;  // noisy sums of a round
  std::int64_t rounds = 1;

  [[nodiscard]] std::int64_t releases() const { return per_round * rounds; }
};

struct Promise {
  std::string mode, unit, adjacency, adversary;  // what is protected, from whom
  double noise_multiplier = 0.0;                 // z that is charged for
  double sampling_rate = 1.0;                    // q
  Schedule schedule;
  double epsilon = 0.0;  // the smaller of the valid bounds; infinite with seeded noise
  double delta = 0.0;
  std::string accountant;    // that gave it
  double epsilon_pld = 0.0;  // by both, where they apply (NaN otherwise)
  double epsilon_rdp = 0.0;
  std::int64_t clients_per_person = 1;  // that the bill is for
  /// What a release counts for somebody who is at clients_per_person = m clients: m releases with a
  /// noise of each client's own; m^2 where one noise is on the sum of them all, which such a person
  /// moves m times as far (mu = m sqrt(T) / z).
  [[nodiscard]] std::int64_t charges_per_release() const;
  bool calibrated = false;  // the multiplier was found, not given

  /// Noise of the gradient sum over C, which is larger than what is charged where clipping is
  /// adaptive.
  double gradient_multiplier = 0.0;
};

/// "unit example, add_remove, against everyone: epsilon 3.00 at delta 1e-06 (pld)", marked when the
/// noise is no noise.
[[nodiscard]] std::string sentence(const Promise& promise);

/// What the section, which passed check(), promises for `schedule`. A hundredth of delta is kept
/// for what the discrete noise differs from a continuous one (grid_bits_of). kConfig
/// naming the key below `where` when the given multiplier breaks the budget, or none keeps it.
[[nodiscard]] Result<Promise> promise_of(const PrivacyConfig& privacy, const Schedule& schedule,
                                         const std::string& where);

/// The phases that `rounds` rounds of the promise are billed as.
[[nodiscard]] std::vector<Phase> phases_of(const Promise& promise, std::int64_t rounds);

/// Epsilon of any phases at `delta` by the accountants that apply, the smaller one.
struct Bill {
  double epsilon = 0.0;
  std::string accountant;
  double pld = 0.0, rdp = 0.0;  // NaN: does not apply
};
[[nodiscard]] Result<Bill> bill(std::span<const Phase> phases, Adjacency adjacency, double delta,
                                const AccountantSection& section);

/// The part of delta by which the discrete noise on `values` numbers, on a grid of `bits`, differs
/// from the continuous noise that was billed, in all releases together.
[[nodiscard]] double grid_slack(const Promise& promise, int bits, std::size_t values);

/// How finely C is cut: `configured` bits, or for 0 twenty, fewer where so much noise would not fit
/// the grid, more, up to 24, until the slack is at most a hundredth of delta. kConfig naming the
/// key below `where` when that is not enough.
[[nodiscard]] Result<int> grid_bits_of(const Promise& promise, std::int64_t configured,
                                       std::size_t values, const std::string& where);

}  // namespace strata::privacy

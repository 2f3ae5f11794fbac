#pragma once
// What an attack shows: a lower bound on epsilon from one training run with many canaries, each in
// or out by a coin (Steinke, Nasr, Jagielski 2023, theorem 5.2). It finds missing clipping or
// missing noise, not a factor of two; a small bound proves nothing.
#include <cstdint>

#include "privacy/accountant/event.h"

namespace strata::privacy {

struct AuditCount {
  std::int64_t canaries = 0;  // each in with probability 1/2
  std::int64_t guesses = 0;   // of them, about how many a guess was made
  std::int64_t correct = 0;
};

/// The probability bound of at least `correct` right guesses under (epsilon, delta): with B the
/// binomial of `guesses` trials at 1/(1 + e^-eps),
///   P[B >= v] + 2 canaries delta max_i (P[B >= v - i] - P[B >= v]) / i, at most 1.
[[nodiscard]] double audit_p_value(const AuditCount& count, Epsilon epsilon, Delta delta);

/// The largest epsilon that is rejected at `confidence`, rounded down; 0 when none is. kConfig
/// unless 0 <= correct <= guesses <= canaries, guesses > 0, 0 <= delta < 1, 0 < confidence < 1.
[[nodiscard]] Result<Epsilon> audit_lower_bound(const AuditCount& count, Delta delta,
                                                double confidence);

}  // namespace strata::privacy

#pragma once
// A one-run audit of noisy sums (Steinke, Nasr, Jagielski 2023): many canaries, each in with
// probability 1/2 for the whole run. A canary that is in contributes, to every step that draws it,
// a gradient with a single entry, at a place of its own and with the sign that is its own in that
// step. An attacker who sees the releases, knows places and signs but not the coins, guesses who is
// in; the share of right guesses bounds epsilon from below.
//   make -> (planted, place, sign: of the run that is audited)* -> see, once a step -> findings
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "privacy/accountant/audit_bound.h"

namespace strata::privacy {

struct CanaryPlan {
  std::size_t canaries = 0;
  std::size_t values = 0;      // of one release; every canary has one of its own
  std::int64_t per_round = 1;  // releases of a round
  std::int64_t rounds = 0;
  double sampling_rate = 1.0;  // chance of a unit to be drawn, each step
  std::uint64_t seed = 0;      // of coins, places and signs

  [[nodiscard]] std::int64_t steps() const { return per_round * rounds; }
};

/// What one attack showed.
struct AuditFinding {
  std::string attack;
  AuditCount count;
  Epsilon least;  // epsilon is at least this, at the confidence
  Epsilon most;   // what it would have shown had every guess been right
};

enum class AuditVerdict {
  kConsistent,    // the attack could have shown a broken promise, and did not
  kViolated,      // epsilon is larger than promised
  kInconclusive,  // it could not have shown one: too few canaries
};

class Canaries {
 public:
  /// kConfig unless 0 < canaries <= values, and canaries times steps at most 5e7.
  [[nodiscard]] static Result<Canaries> make(const CanaryPlan& plan);

  /// How many are in; they are numbered from 0.
  [[nodiscard]] std::size_t planted() const { return planted_.size(); }
  [[nodiscard]] std::size_t place(std::size_t planted) const { return place_[planted_[planted]]; }
  /// +1 or -1: a sign of the step in its round times one of the round, each as often the one as the
  /// other, so that noise which is the same in all steps, in all rounds, or in all steps of a round
  /// falls out of a canary's score.
  [[nodiscard]] int sign(std::size_t planted, std::int64_t step) const {
    return sign_of(planted_[planted], step);
  }

  /// What step `step` released: the noisy sum in units of what one canary can contribute, `values`
  /// numbers. Every step once.
  void see(std::int64_t step, std::span<const float> release, double unit);

  /// Each attack's finding, after the last step; the confidence holds for all of them together.
  [[nodiscard]] Result<std::vector<AuditFinding>> findings(Delta delta, double confidence) const;

 private:
  explicit Canaries(const CanaryPlan& plan) : plan_(plan) {}
  [[nodiscard]] int sign_of(std::size_t canary, std::int64_t step) const;
  [[nodiscard]] bool left_out(std::int64_t step) const;
  [[nodiscard]] std::vector<double> signed_sums() const;
  [[nodiscard]] std::vector<double> likelihoods() const;
  [[nodiscard]] AuditCount guess(const std::vector<double>& scores) const;

  CanaryPlan plan_;
  std::vector<std::size_t> place_;  // of each canary
  std::vector<bool> in_, flipped_;
  std::vector<std::size_t> planted_;      // those that are in
  std::vector<int> in_round_, of_round_;  // signs, shared by all but for the flip
  std::vector<float> seen_;               // [canary][step]
};

/// The number of canaries with which an attack whose guesses are all right shows a tenth more than
/// `claimed`: at least 1000, at most what `values` and a bound on the work allow.
[[nodiscard]] Result<std::size_t> canaries_for(Epsilon claimed, Delta delta, double confidence,
                                               const CanaryPlan& plan);

[[nodiscard]] AuditVerdict verdict_of(const std::vector<AuditFinding>& findings, Epsilon claimed);

}  // namespace strata::privacy

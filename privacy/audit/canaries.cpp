#include "privacy/audit/canaries.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "sys/random.h"

namespace strata::privacy {
namespace {

constexpr std::size_t kFewest = 1000;
constexpr std::size_t kMost = 40000;
constexpr double kSeenMax = 5e7;  // numbers kept: canaries times steps
// Where not every step draws everyone: of those expected to be in, and of those to be out, the
// share that is guessed. The rest, whose scores lie in the middle, are passed over.
constexpr double kGuessed = 0.9;
constexpr std::int64_t kOddOne = 0;
constexpr double kLeastDeviation = 1e-3;  // assumed of noise that is not there
constexpr double kNormalQuartile = 0.6745;

double middle(std::vector<float>& values) {
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), at, values.end());
  return static_cast<double>(*at);
}

// +1 and -1 in a drawn order, equally often; of an odd number, the one at kOddOne is over.
std::vector<int> balanced(std::int64_t count, const sys::Stream& draws) {
  std::vector<int> out(static_cast<std::size_t>(count), 1);
  const std::size_t first = out.size() % 2;  // kOddOne stays +1
  auto order = sys::Stream(draws).permutation(out.size() - first);
  for (std::size_t i = 0; i < order.size() / 2; ++i) out[first + order[i]] = -1;
  return out;
}

bool draws_everyone(const CanaryPlan& plan) { return plan.sampling_rate >= 1.0; }

// Chance that a canary which is in is drawn at all.
double appears(const CanaryPlan& plan) {
  return draws_everyone(plan)
             ? 1.0
             : -std::expm1(static_cast<double>(plan.steps()) * std::log1p(-plan.sampling_rate));
}

bool always_drawn(const CanaryPlan& plan) { return appears(plan) > 0.999; }

// Guesses that a canary is in, and that one is out: the latter only where whoever is in shows.
struct Guesses {
  std::size_t in = 0, out = 0;
};

Guesses guesses_of(const CanaryPlan& plan) {
  const double half = 0.5 * static_cast<double>(plan.canaries);
  const auto in = static_cast<std::size_t>(kGuessed * half * appears(plan));
  return {.in = std::max<std::size_t>(1, in), .out = always_drawn(plan) ? in : 0};
}

std::size_t attacks(const CanaryPlan& plan) { return draws_everyone(plan) ? 1 : 2; }

double confidence_each(const CanaryPlan& plan, double confidence) {
  return 1.0 - (1.0 - confidence) / static_cast<double>(attacks(plan));
}

AuditCount all_right(const CanaryPlan& plan) {
  const Guesses guesses = guesses_of(plan);
  const auto made =
      static_cast<std::int64_t>(draws_everyone(plan) ? plan.canaries : guesses.in + guesses.out);
  return {.canaries = static_cast<std::int64_t>(plan.canaries), .guesses = made, .correct = made};
}

}  // namespace

Result<Canaries> Canaries::make(const CanaryPlan& plan) {
  if (plan.canaries == 0 || plan.canaries > plan.values) {
    return fail(
        {.code = ErrorCode::kConfig,
         .what = fmt::format("{} canaries for {} trained values", plan.canaries, plan.values),
         .rule = "at least one, and every canary has a value of its own"});
  }
  if (static_cast<double>(plan.canaries) * static_cast<double>(plan.steps()) > kSeenMax) {
    return fail({.code = ErrorCode::kConfig,
                 .what = fmt::format("{} canaries in {} releases", plan.canaries, plan.steps()),
                 .rule = fmt::format("their product is at most {:g}", kSeenMax),
                 .remedy = "take fewer canaries"});
  }
  check(plan.steps() > 0 && plan.sampling_rate > 0.0 && plan.sampling_rate <= 1.0,
        "something is released");
  Canaries out(plan);
  sys::Stream draws(plan.seed);
  auto places = draws.at({.purpose = "places"}).permutation(plan.values);
  out.place_.assign(places.begin(), places.begin() + static_cast<std::ptrdiff_t>(plan.canaries));
  auto coins = draws.at({.purpose = "coins"});
  auto flips = draws.at({.purpose = "signs"});
  for (std::size_t i = 0; i < plan.canaries; ++i) {
    out.in_.push_back((coins.next() & 1u) != 0);
    out.flipped_.push_back((flips.next() & 1u) != 0);
    if (out.in_.back()) out.planted_.push_back(i);
  }
  out.in_round_ = balanced(plan.per_round, draws.at({.purpose = "steps"}));
  out.of_round_ = balanced(plan.rounds, draws.at({.purpose = "rounds"}));
  const auto steps = static_cast<std::size_t>(plan.steps());
  out.seen_.assign(plan.canaries * steps, 0.0f);
  return out;
}

int Canaries::sign_of(std::size_t canary, std::int64_t step) const {
  const int sign = in_round_[static_cast<std::size_t>(step % plan_.per_round)] *
                   of_round_[static_cast<std::size_t>(step / plan_.per_round)];
  return flipped_[canary] ? -sign : sign;
}

// Of an odd number, the one without a counterpart.
bool Canaries::left_out(std::int64_t step) const {
  const auto odd_one = [](const std::vector<int>& signs, std::int64_t at) {
    return signs.size() > 1 && signs.size() % 2 == 1 && at == kOddOne;
  };
  return odd_one(in_round_, step % plan_.per_round) || odd_one(of_round_, step / plan_.per_round);
}

void Canaries::see(std::int64_t step, std::span<const float> release, double unit) {
  check(release.size() == plan_.values, "a release has the values that canaries were placed in");
  check(step >= 0 && step < plan_.steps(), "no more releases than planned");
  const auto steps = static_cast<std::size_t>(plan_.steps());
  for (std::size_t i = 0; i < plan_.canaries; ++i) {
    seen_[i * steps + static_cast<std::size_t>(step)] =
        static_cast<float>(static_cast<double>(release[place_[i]]) / unit);
  }
}

// As many steps of either sign: what is the same in all of them, noise that was used before, is
// gone.
std::vector<double> Canaries::signed_sums() const {
  const auto steps = static_cast<std::size_t>(plan_.steps());
  std::vector<double> out(plan_.canaries, 0.0);
  for (std::size_t i = 0; i < plan_.canaries; ++i) {
    for (std::size_t t = 0; t < steps; ++t) {
      const auto step = static_cast<std::int64_t>(t);
      if (!left_out(step)) out[i] += sign_of(i, step) * static_cast<double>(seen_[i * steps + t]);
    }
  }
  return out;
}

// Log likelihood ratio of in to out, each step's noise being Gaussian with the deviation that the
// releases show:  sum_t log(1 - q + q exp((y_t - 1/2) / s^2)).
std::vector<double> Canaries::likelihoods() const {
  const auto steps = static_cast<std::size_t>(plan_.steps());
  std::vector<float> centred = seen_;
  // A canary that is in is in fewer than half of the steps: what it usually sees is noise, and the
  // same noise in every step is none.
  if (steps >= 3 && plan_.sampling_rate < 0.5) {
    std::vector<float> row(steps);
    for (std::size_t i = 0; i < plan_.canaries; ++i) {
      std::copy_n(seen_.begin() + static_cast<std::ptrdiff_t>(i * steps), steps, row.begin());
      const auto usual = static_cast<float>(middle(row));
      for (std::size_t t = 0; t < steps; ++t) centred[i * steps + t] -= usual;
    }
  }
  std::vector<float> sizes(centred.size());
  std::transform(centred.begin(), centred.end(), sizes.begin(),
                 [](float v) { return std::abs(v); });
  const double deviation = std::max(kLeastDeviation, middle(sizes) / kNormalQuartile);
  const double log_out = std::log1p(-plan_.sampling_rate);
  const double log_in = std::log(plan_.sampling_rate);
  std::vector<double> out(plan_.canaries, 0.0);
  for (std::size_t i = 0; i < plan_.canaries; ++i) {
    for (std::size_t t = 0; t < steps; ++t) {
      const double y =
          sign_of(i, static_cast<std::int64_t>(t)) * static_cast<double>(centred[i * steps + t]);
      const double in = log_in + (y - 0.5) / (deviation * deviation);
      const double larger = std::max(in, log_out);
      out[i] += larger + std::log1p(std::exp(std::min(in, log_out) - larger));
    }
  }
  return out;
}

AuditCount Canaries::guess(const std::vector<double>& scores) const {
  std::vector<std::size_t> order(scores.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  AuditCount out = all_right(plan_);
  out.correct = 0;
  if (draws_everyone(plan_)) {  // two heaps: everyone belongs to the nearer one
    const double high = scores[order[order.size() / 4]];
    const double low = scores[order[order.size() - 1 - order.size() / 4]];
    for (std::size_t i = 0; i < scores.size(); ++i)
      out.correct += (scores[i] > 0.5 * (high + low)) == in_[i] ? 1 : 0;
    return out;
  }
  const Guesses guesses = guesses_of(plan_);
  for (std::size_t i = 0; i < guesses.in; ++i) out.correct += in_[order[i]] ? 1 : 0;
  for (std::size_t i = 0; i < guesses.out; ++i)
    out.correct += in_[order[order.size() - 1 - i]] ? 0 : 1;
  return out;
}

Result<std::vector<AuditFinding>> Canaries::findings(Delta delta, double confidence) const {
  const double each = confidence_each(plan_, confidence);
  auto most = audit_lower_bound(all_right(plan_), delta, each);
  if (!most) return fail(std::move(most).error());
  std::vector<AuditFinding> out{{.attack = "signed sum", .count = guess(signed_sums())}};
  if (attacks(plan_) > 1) out.push_back({.attack = "likelihood", .count = guess(likelihoods())});
  for (AuditFinding& finding : out) {
    auto least = audit_lower_bound(finding.count, delta, each);
    if (!least) return fail(std::move(least).error());
    finding.least = *least;
    finding.most = *most;
  }
  return out;
}

Result<std::size_t> canaries_for(Epsilon claimed, Delta delta, double confidence,
                                 const CanaryPlan& plan) {
  const auto kept = static_cast<std::size_t>(kSeenMax / static_cast<double>(plan.steps()));
  const std::size_t limit = std::max<std::size_t>(1, std::min({kMost, kept, plan.values}));
  CanaryPlan tried = plan;
  std::size_t best = 0;
  double shown = -1.0;
  // More canaries show more, until there are so many that delta allows for it all.
  for (tried.canaries = std::min(kFewest, limit);;
       tried.canaries = std::min(limit, tried.canaries + tried.canaries / 4 + 1)) {
    auto most = audit_lower_bound(all_right(tried), delta, confidence_each(tried, confidence));
    if (!most) return fail(std::move(most).error());
    if (most->value > shown) {
      shown = most->value;
      best = tried.canaries;
    }
    if (shown > 1.1 * claimed.value || tried.canaries == limit) return best;
  }
}

AuditVerdict verdict_of(const std::vector<AuditFinding>& findings, Epsilon claimed) {
  bool could = false;
  for (const AuditFinding& finding : findings) {
    if (finding.least.value > claimed.value) return AuditVerdict::kViolated;
    could = could || finding.most.value > claimed.value;
  }
  return could ? AuditVerdict::kConsistent : AuditVerdict::kInconclusive;
}

}  // namespace strata::privacy

#include "privacy/accountant/audit_bound.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/math/distributions/binomial.hpp>
#include <cmath>

namespace strata::privacy {
namespace {

constexpr double kMostEpsilon = 100.0;

}  // namespace

double audit_p_value(const AuditCount& count, Epsilon epsilon, Delta delta) {
  const auto trials = static_cast<double>(count.guesses);
  const boost::math::binomial_distribution<double> guesses(trials,
                                                           1.0 / (1.0 + std::exp(-epsilon.value)));
  const auto right = static_cast<double>(count.correct);
  const double base =
      count.correct == 0 ? 1.0 : boost::math::cdf(boost::math::complement(guesses, right - 1.0));
  double steepest = 0.0;
  double between = 0.0;  // P[v - i <= B < v]
  for (std::int64_t i = 1; delta.value > 0.0 && i <= count.correct; ++i) {
    const double next = boost::math::pdf(guesses, static_cast<double>(count.correct - i));
    // The probabilities rise to the most likely count and fall after it: once one is below the mean
    // of those before it, so are all that follow.
    if (i > 1 && next < steepest) break;
    between += next;
    steepest = std::max(steepest, between / static_cast<double>(i));
  }
  return std::min(1.0, base + 2.0 * static_cast<double>(count.canaries) * delta.value * steepest);
}

Result<Epsilon> audit_lower_bound(const AuditCount& count, Delta delta, double confidence) {
  const bool counts = 0 <= count.correct && count.correct <= count.guesses && 0 < count.guesses &&
                      count.guesses <= count.canaries;
  if (!counts) {
    return fail({.code = ErrorCode::kConfig,
                 .what = fmt::format("{} right of {} guesses about {} canaries", count.correct,
                                     count.guesses, count.canaries),
                 .rule = "0 <= right <= guesses <= canaries, and a guess was made"});
  }
  if (!(delta.value >= 0.0 && delta.value < 1.0) || !(confidence > 0.0 && confidence < 1.0)) {
    return fail({.code = ErrorCode::kConfig,
                 .what = fmt::format("delta is {}, the confidence {}", delta.value, confidence),
                 .rule = "0 <= delta < 1 and 0 < confidence < 1",
                 .remedy = "0.95 is usual"});
  }
  const double level = 1.0 - confidence;
  const auto rejected = [&](double epsilon) {
    return audit_p_value(count, {epsilon}, delta) <= level;
  };
  if (!rejected(0.0)) return Epsilon{0.0};
  double low = 0.0;
  double high = kMostEpsilon;
  if (rejected(high)) return Epsilon{high};
  for (int i = 0; i < 60; ++i) {
    const double middle = 0.5 * (low + high);
    (rejected(middle) ? low : high) = middle;
  }
  return Epsilon{low};
}

}  // namespace strata::privacy

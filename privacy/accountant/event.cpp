#include "privacy/accountant/event.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <tuple>

namespace strata::privacy {
namespace {

// Beyond this a double no longer counts one by one.
constexpr double kMostReleases = 9007199254740992.0;

Error out_of_range(std::string what, std::string rule, std::string remedy) {
  return {.code = ErrorCode::kConfig,
          .what = std::move(what),
          .rule = std::move(rule),
          .remedy = std::move(remedy)};
}

Result<void> check_phase(const Phase& phase) {
  const bool gaussian = phase.mechanism == Mechanism::kGaussian;
  if (!(phase.noise >= 0.0)) {
    return fail(out_of_range(
        fmt::format("{} is {}", gaussian ? "the noise multiplier" : "the Laplace scale",
                    phase.noise),
        "it is at least 0", "give the noise's scale divided by the clip norm"));
  }
  if (!(phase.rate >= 0.0 && phase.rate <= 1.0)) {
    return fail(out_of_range(fmt::format("the sampling rate is {}", phase.rate),
                             "it is a probability, from 0 to 1",
                             "give the chance of one record to be in a batch"));
  }
  if (!gaussian && phase.rate != 1.0) {
    return fail(
        out_of_range(fmt::format("the sampling rate of a Laplace release is {}", phase.rate),
                     "only Gaussian releases are sampled", "give 1"));
  }
  if (!(phase.releases >= 0.0 && phase.releases <= kMostReleases) ||
      phase.releases != std::floor(phase.releases)) {
    return fail(out_of_range(fmt::format("the number of releases is {}", phase.releases),
                             "it is a whole number, at least 0",
                             "count every noisy sum, empty batches too"));
  }
  return {};
}

void merge_equal(std::vector<Phase>& phases) {
  const auto key = [](const Phase& p) { return std::tuple(p.noise, p.rate); };
  std::sort(phases.begin(), phases.end(),
            [&](const Phase& a, const Phase& b) { return key(a) < key(b); });
  std::vector<Phase> merged;
  for (const Phase& phase : phases) {
    if (!merged.empty() && key(merged.back()) == key(phase))
      merged.back().releases += phase.releases;
    else
      merged.push_back(phase);
  }
  phases = std::move(merged);
}

}  // namespace

Adjacency adjacency_of(std::string_view name) {
  if (name == "replace_one") return Adjacency::kReplaceOne;
  check(name == "zero_out" || name == "add_remove", "an adjacency has one of three names");
  return name == "zero_out" ? Adjacency::kZeroOut : Adjacency::kAddRemove;
}

Result<Composition> compose(std::span<const Phase> phases, Adjacency adjacency) {
  Composition out;
  out.swapped = adjacency == Adjacency::kReplaceOne;
  const double movement = out.swapped ? 2.0 : 1.0;
  std::vector<Phase> full;
  for (const Phase& phase : phases) {
    if (auto valid = check_phase(phase); !valid) return fail(std::move(valid).error());
    if (phase.releases == 0.0 || phase.rate == 0.0 || std::isinf(phase.noise)) continue;
    if (phase.noise == 0.0) {
      out.unbounded = true;
    } else if (phase.mechanism == Mechanism::kLaplace) {
      out.laplace.push_back(Phase::laplace(phase.noise / movement, phase.releases));
    } else if (phase.rate == 1.0 || phase.noise < kLeastSampledNoise) {
      full.push_back(Phase::gaussian(phase.noise, 1.0, phase.releases));
    } else {
      out.sampled.push_back(phase);
    }
  }
  merge_equal(out.sampled);
  merge_equal(out.laplace);
  merge_equal(full);
  double mu_squared = 0.0;
  for (const Phase& phase : full)
    mu_squared += phase.releases * std::pow(movement / phase.noise, 2.0);
  out.mu = std::sqrt(mu_squared);
  return out;
}

Result<void> check_delta(Delta delta) {
  if (delta.value > 0.0 && delta.value < 1.0) return {};
  return fail(out_of_range(fmt::format("delta is {}", delta.value), "0 < delta < 1",
                           "take less than one over the number of records, 1e-6 say"));
}

Result<void> check_epsilon(Epsilon epsilon) {
  if (epsilon.value >= 0.0) return {};
  return fail(out_of_range(fmt::format("epsilon is {}", epsilon.value), "it is at least 0",
                           "give the epsilon that is allowed"));
}

}  // namespace strata::privacy

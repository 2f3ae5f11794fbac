#pragma once
// What happened, as values: which noise was added to which sums, how often, and which data sets
// count as neighbours. How it is billed is the accountants' affair (accountant.h).
// One convention everywhere: the noise multiplier z is the standard deviation of the noise divided
// by the clip norm C, that is by how far ONE record added or removed moves the sum. Swapping a
// record moves it by 2C; the accountants know that, callers never halve z themselves.
// Threads: values.
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace strata::privacy {

struct Epsilon {
  double value = 0.0;
};
struct Delta {
  double value = 0.0;
};

/// Which data sets are neighbours.
enum class Adjacency {
  kAddRemove,   // one record more or less: the sum moves by at most C
  kZeroOut,     // one record replaced by an empty one: the numbers of kAddRemove, the count public
  kReplaceOne,  // one record swapped for another: the sum moves by at most 2C
};

/// Of its name in job files: "add_remove", "zero_out", "replace_one".
[[nodiscard]] Adjacency adjacency_of(std::string_view name);

enum class Mechanism { kGaussian, kLaplace };

/// Equal releases: `releases` noisy sums, each over records drawn independently with probability
/// `rate` (Poisson sampling; 1: all of them).
struct Phase {
  Mechanism mechanism = Mechanism::kGaussian;
  double noise = 0.0;  // kGaussian: z = std / C; kLaplace: the scale b divided by C
  double rate = 1.0;   // q in [0, 1]; Laplace releases are not sampled: 1
  double releases = 1.0;

  [[nodiscard]] static Phase gaussian(double noise_multiplier, double rate, double releases) {
    return {Mechanism::kGaussian, noise_multiplier, rate, releases};
  }
  [[nodiscard]] static Phase laplace(double scale, double releases) {
    return {Mechanism::kLaplace, scale, 1.0, releases};
  }
  friend bool operator==(const Phase&, const Phase&) = default;
};

/// Sampled releases with less noise are billed as if every record were in every batch, which is
/// never less: epsilon is above a thousand, and the sums of the accountants need not reach there.
inline constexpr double kLeastSampledNoise = 0.02;

/// Phases put in order for an accountant: what costs nothing (no release, no record, infinite
/// noise) is gone, equal phases are one, and full-batch Gaussians are a single one. The order of
/// the given phases leaves no trace, nor does splitting one.
struct Composition {
  bool unbounded = false;  // something was released without noise: epsilon is infinite
  bool swapped = false;    // kReplaceOne; `mu` and `laplace` have the factor 2 already
  /// Full-batch Gaussians together are one Gaussian whose means lie mu deviations apart:
  /// mu^2 = sum of releases * (movement / std)^2 (Dong, Roth, Su 2022, corollary 3.3).
  double mu = 0.0;
  std::vector<Phase>
      sampled;  // Gaussian, 0 < q < 1, 0.02 <= z < infinity, releases >= 1; z as given
  std::vector<Phase> laplace;  // 0 < noise < infinity, in units of the movement

  [[nodiscard]] bool empty() const { return mu == 0.0 && sampled.empty() && laplace.empty(); }
};

/// kConfig naming value and rule for noise that is negative or NaN, a rate outside [0, 1], releases
/// that are negative or no whole number, a sampled Laplace release.
[[nodiscard]] Result<Composition> compose(std::span<const Phase> phases, Adjacency adjacency);

/// kConfig unless 0 < delta < 1.
[[nodiscard]] Result<void> check_delta(Delta delta);
/// kConfig unless epsilon >= 0 (infinity too).
[[nodiscard]] Result<void> check_epsilon(Epsilon epsilon);

}  // namespace strata::privacy

#pragma once
// The one act that makes a sum of gradients private:
//   release = (sum over units of trunc(unit / g)  +  discrete Gaussian(sigma))  g / divisor
// in integers up to the last product. A unit is whatever is to be hidden - an example, or all that
// a user contributed - and its vector holds every trained number, clipped to the grid's norm
// beforehand.
//   add*  ->  release  ->  add*  ->  release ...
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "privacy/noise/discrete_gaussian.h"
#include "privacy/noise/grid.h"
#include "privacy/noise/noise_source.h"
#include "tensor/team.h"

namespace strata::noise {

/// Threads: one caller. The sum does not depend on the team's size, nor on the order of the units.
class NoisySum {
 public:
  /// A sum of vectors of `size` numbers.
  NoisySum(const Grid& grid, std::size_t size);
  NoisySum(NoisySum&&) noexcept = default;
  NoisySum& operator=(NoisySum&&) noexcept = default;
  ~NoisySum();  // wipes the sum

  /// Adds a unit given in pieces, laid one behind another; together `size` numbers. Each is rounded
  /// towards zero, which never makes the norm larger. A unit whose sum of squares is then above the
  /// bound, or that has a number which is not finite, adds nothing and is counted in refused().
  void add(std::span<const std::span<const float>> unit, tensor::Team& team);
  void add(std::span<const float> unit, tensor::Team& team);
  /// Adds the units of another sum of the same grid and size, which is empty afterwards.
  void merge(NoisySum& other);

  /// Writes the noisy sum over `divisor`, a positive constant that does not depend on the data,
  /// into `out` (`size` numbers), and begins anew: no sum gets noise twice. Also without any unit.
  /// `supply` has a source for each thread of `team`. With a seeded supply the same sum gives the
  /// same bits for any team. kConfig for a divisor that is not positive and finite.
  [[nodiscard]] Result<void> release(NoiseSupply& supply, double divisor, std::span<float> out,
                                     tensor::Team& team);

  [[nodiscard]] std::size_t size() const { return sum_.size(); }
  /// Units that added nothing since the beginning. It depends on the data: for a local log at most,
  /// never to be sent.
  [[nodiscard]] std::uint64_t refused() const { return refused_; }

 private:
  Grid grid_;
  DiscreteGaussian noise_;
  std::vector<std::int64_t> sum_;
  std::uint64_t refused_ = 0;
};

}  // namespace strata::noise

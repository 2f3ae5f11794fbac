#pragma once
// What a coordinator makes of a round's updates when whole clients are to be hidden from everybody
// but itself:
//   release = ( sum_k w_k clip(u_k)  +  N(0, (z w_max C)^2) ) / W
// u_k is all that client k changed, as one vector. One client more or less moves the sum by at most
// w_max C, whatever it sends; W is a constant of the plan, so that a client that stays away changes
// neither the divisor nor the noise. In integers up to the last product (noise/noisy_sum.h).
//   add*  ->  release  ->  add* ...
// Threads: one caller.
#include <cstdint>
#include <span>

#include "base/result.h"
#include "privacy/noise/noisy_sum.h"
#include "privacy/privacy_config.h"
#include "tensor/team.h"

namespace strata::privacy {

/// Public numbers, all of them.
struct ClientSumConfig {
  ClipConfig clip;                // flat or normalise
  double noise_multiplier = 1.0;  // z: deviation over w_max C
  double weight_max = 1.0;        // w_max, of all clients of the plan
  double denominator = 1.0;       // W
  int grid_bits = 20;
};

class ClientSum {
 public:
  /// Of vectors of `values` numbers. kConfig for another kind of clipping, for a weight or
  /// denominator that is not positive and finite, and when the noise does not fit the grid.
  [[nodiscard]] static Result<ClientSum> make(const ClientSumConfig& config, std::size_t values);

  /// Clips a client's update, which is overwritten, and adds it with its weight of the plan, above
  /// 0 and at most weight_max. One that is not finite, or breaks the bound in integers, adds
  /// nothing.
  void add(std::span<float> update, double weight, tensor::Team& team);

  /// Writes the noisy mean and begins anew. Also when nobody was added.
  [[nodiscard]] Result<void> release(noise::NoiseSupply& supply, std::span<float> out,
                                     tensor::Team& team);

  [[nodiscard]] std::size_t size() const { return sum_.size(); }

 private:
  ClientSum(const ClientSumConfig& config, const noise::Grid& grid, std::size_t values)
      : config_(config), sum_(grid, values) {}

  ClientSumConfig config_;
  noise::NoisySum sum_;
};

}  // namespace strata::privacy

#pragma once
// The noisy gradient of one step of DP-SGD over a client's units: each unit's own gradient is
// clipped, the clipped ones are added up on an exact grid, noise is added to the sum, and the
// result is divided by a public constant.
//   g = ( sum_u clip(g_u) + N(0, (z C)^2) ) / B        Abadi et al. 2016, Algorithm 1
//   g_u = sum over the unit's records of the gradient of the record's mean token loss
//   clip  flat       g min(1, C / ||g||)
//         per_layer  each layer's part to its own C_l; C^2 = sum C_l^2
//         normalise  g C / (||g|| + gamma)                       Bu et al. 2023
//         adaptive   flat, with a C that follows a quantile of the norms     Andrew et al. 2021
// A unit whose gradient is not finite counts as zero. Nothing that this computes may be told to
// anybody but through release().
// Threads: one caller.
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "adapter/adapter_set.h"
#include "privacy/noise/noisy_sum.h"
#include "privacy/privacy_config.h"
#include "tensor/team.h"

namespace strata::client {

/// The numbers of the mechanism, all of them public.
struct DpSgdConfig {
  privacy::ClipConfig clip;
  double noise_multiplier = 1.0;        // of the gradients: deviation over C
  std::optional<double> sampling_rate;  // q; absent: every unit in every step
  double divisor = 1.0;                 // B
  int grid_bits = 20;
  bool seeded = false;  // for tests: the noise can be computed from the seed
  /// The one unit is all that a client has: plain steps, and what they change in a round is clipped
  /// and noised once.
  bool whole_update = false;
};

class PrivateGradient {
 public:
  /// `clip_norm`: C of an adaptive clipping that goes on; 0: as configured. Borrows `adapters` and
  /// `memory`, which grows as needed. kConfig when a layer has no bound, or the noise does not fit
  /// the grid.
  [[nodiscard]] static Result<PrivateGradient> make(const DpSgdConfig& config, double clip_norm,
                                                    const adapter::AdapterSet& adapters,
                                                    std::vector<float>& memory);

  /// C of the first step: with per_layer the root of the sum of C_l^2 over the layers of
  /// `adapters`. kConfig as make().
  [[nodiscard]] static Result<double> clip_norm_of(const privacy::ClipConfig& clip,
                                                   const adapter::AdapterSet& adapters);

  /// Records whose gradients are held at a time: as many as fit into about 64 MB, at least one.
  [[nodiscard]] std::size_t records_max() const;

  /// Where a pass over the records at `offsets` (of a batch, borrowed) leaves their gradients.
  [[nodiscard]] const adapter::RecordGradients& begin_pass(std::span<const std::uint32_t> offsets);

  /// Adds what the pass left. `last[i]`: record i is the last of its unit, whose records follow
  /// each other, over passes if need be.
  [[nodiscard]] Result<void> end_pass(const std::vector<bool>& last, tensor::Team& team);

  /// Adds a unit whose gradient is at hand: `fill` writes it.
  void add_unit(const std::function<void(std::span<float>)>& fill, tensor::Team& team);

  /// Writes the noisy gradient to `grads`, laid one behind another in the order of the adapters'
  /// params(), and begins anew. Also when no unit was in the step.
  [[nodiscard]] Result<void> release(noise::NoiseSupply& supply,
                                     std::span<const adapter::ParamRef> params, tensor::Team& team);

  /// C of the step that follows.
  [[nodiscard]] double clip_norm() const { return norm_; }

  /// Norms of the last pass's finished units before clipping, and what of them was kept: for tests.
  [[nodiscard]] std::span<const double> norms() const { return norms_; }

 private:
  struct Layer {
    std::size_t from = 0;
    std::size_t count = 0;
    double bound = 0.0;
  };
  PrivateGradient(const DpSgdConfig& config, const adapter::AdapterSet& adapters,
                  std::vector<float>& memory);
  [[nodiscard]] static Result<std::vector<Layer>> layers_of(const privacy::ClipConfig& clip,
                                                            const adapter::AdapterSet& adapters);
  [[nodiscard]] Result<void> make_sums();
  void add_unit(std::span<float> gradient, tensor::Team& team);
  [[nodiscard]] double norm_of(std::span<const float> values, tensor::Team& team);

  DpSgdConfig config_;
  std::size_t width_;
  double norm_;
  std::vector<Layer> layers_;
  std::vector<float>* gradients_;
  std::vector<float> unit_;  // of the unit whose records are still coming; empty: none
  bool unit_open_ = false;
  std::vector<double> parts_, norms_;
  adapter::RecordGradients target_;
  std::optional<noise::NoisySum> sum_, below_;
};

}  // namespace strata::client

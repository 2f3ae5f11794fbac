#pragma once
// Each record's own gradient, clipped to a norm and added up: a step of DP-SGD before its noise.
//   g = 1/N sum_i min(1, C / ||g_i||_2) g_i,    g_i: gradient of record i's mean token loss
//                                               over all trained values together
//                                               Abadi et al. 2016, Algorithm 1
// The gradients of one pass's records are in memory at a time, `records_max` at most.
#include <cstddef>
#include <span>
#include <vector>

#include "adapter/adapter_set.h"
#include "tensor/team.h"

namespace strata::client {

class RecordClipping {
 public:
  /// max_norm > 0. Borrows `adapters`, whose values the gradients are of, and `memory`, which grows
  /// as needed and may be kept from step to step.
  RecordClipping(double max_norm, const adapter::AdapterSet& adapters, std::vector<float>& memory);

  /// Records whose gradients are held at a time: as many as fit into about 64 MB, at least one.
  [[nodiscard]] std::size_t records_max() const;

  /// Where a pass over the records at `offsets` (of a batch, borrowed) leaves their gradients.
  /// Valid until the next call.
  [[nodiscard]] const adapter::RecordGradients& begin_pass(std::span<const std::uint32_t> offsets);

  /// Clips what the pass left and adds `scale` times the sum to the adapters' grads. Fixed order of
  /// sums: the same bits for any team. Returns each record's norm before clipping.
  std::span<const double> end_pass(double scale, tensor::Team& team);

 private:
  double max_norm_;
  const adapter::AdapterSet* adapters_;
  std::size_t width_;
  std::vector<float>& gradients_;
  std::vector<double> norms_, parts_;
  adapter::RecordGradients target_;
};

}  // namespace strata::client

#pragma once
// How exact a round was: the change that is merged against the weighted mean of the clients' own
// updates, computed again from those updates alone, in double, a block of rows at a time. Beside
// it, what factor averaging would have lost on the same updates.
#include <string>

#include "coordinator/aggregator/aggregator.h"

namespace strata::coordinator {

struct Exactness {
  double relative_error = 0.0;  // ||merged - mean||_F / ||mean||_F over all tensors together
  double worst_tensor_error = 0.0;
  std::string worst_tensor;
  double factor_averaging_error =
      0.0;  // the same for (sum p_k B_k)(sum p_k A_k), smaller ranks padded; NaN when not defined
  double update_norm = 0.0;  // ||mean||_F
};

/// `merged` is what was applied: the packet's terms, or the mean factors. Fixed order of
/// sums, for any team. kIo when an update cannot be read back.
[[nodiscard]] Result<Exactness> measure_exactness(const UpdateSet& set, const Aggregate& merged,
                                                  tensor::Team* team = nullptr);

}  // namespace strata::coordinator

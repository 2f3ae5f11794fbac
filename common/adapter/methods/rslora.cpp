// rsLoRA (Kalajdzievski 2023): s = alpha / sqrt(r), so that a larger rank does not shrink the
// update.
#include <cmath>

#include "adapter/low_rank_adapter.h"
#include "adapter/methods/methods.h"

namespace strata::adapter {

std::unique_ptr<Adapter> make_rslora(const LinearShape& shape, const AdapterSpec& spec) {
  return make_low_rank(shape, spec.rank,
                       {.scale = spec.alpha / std::sqrt(static_cast<double>(spec.rank)),
                        .dropout = spec.dropout,
                        .lr_ratio_b = spec.lr_ratio_b,
                        .train_a = !spec.freeze_a,
                        .share = spec.share});
}

}  // namespace strata::adapter

// The heads of LTE (Huh et al. 2024, arXiv 2402.16828): s = alpha / r, A with orthogonal rows of
// length sqrt(d_in / r), so that A x has the length of x in the mean, B zero.
#include "adapter/low_rank_adapter.h"
#include "adapter/methods/methods.h"

namespace strata::adapter {

std::unique_ptr<Adapter> make_lte(const LinearShape& shape, const AdapterSpec& spec) {
  return make_low_rank(shape, spec.rank,
                       {.scale = spec.alpha / static_cast<double>(spec.rank),
                        .dropout = spec.dropout,
                        .lr_ratio_b = spec.lr_ratio_b,
                        .train_a = !spec.freeze_a,
                        .orthogonal = true,
                        .share = spec.share});
}

}  // namespace strata::adapter

// A drawn anew each round from a seed that all parties know, only B trained: FFA-LoRA (Sun et al.
// 2024) whose frozen factor moves, as the random projections of Flora do (Hao et al. 2024). An
// update is linear in B and carries nothing else; ranks are rows of one sequence, so that clients
// of any ranks add up to one pair.
#include "adapter/low_rank_adapter.h"
#include "adapter/methods/methods.h"

namespace strata::adapter {

std::unique_ptr<Adapter> make_seeded_a(const LinearShape& shape, const AdapterSpec& spec) {
  return make_low_rank(shape, spec.rank,
                       {.scale = spec.alpha / static_cast<double>(spec.rank),
                        .dropout = spec.dropout,
                        .lr_ratio_b = spec.lr_ratio_b,
                        .train_a = false,
                        .seeded = SeededFactors(spec.shared, spec.round)});
}

}  // namespace strata::adapter

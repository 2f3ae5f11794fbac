// FFA-LoRA (Sun et al. 2024): A frozen and the same for all clients of a run, only B is trained.
// The weighted mean of B is then exact and the aggregate keeps rank r. Unequal ranks take the first
// rows of one sequence; equal ids mean equal bits.
#include "adapter/low_rank_adapter.h"
#include "adapter/methods/methods.h"

namespace strata::adapter {

std::unique_ptr<Adapter> make_frozen_a(const LinearShape& shape, const AdapterSpec& spec) {
  sys::Stream draws =
      spec.shared.at({.purpose = "frozen_a", .item = sys::name_hash(shape.module) + spec.rank});
  const std::uint64_t id = (static_cast<std::uint64_t>(draws.next()) << 32 | draws.next()) | 1u;
  return make_low_rank(shape, spec.rank,
                       {.scale = spec.alpha / static_cast<double>(spec.rank),
                        .dropout = spec.dropout,
                        .lr_ratio_b = spec.lr_ratio_b,
                        .train_a = false,
                        .shared_a = id,
                        .shared = spec.shared});
}

}  // namespace strata::adapter

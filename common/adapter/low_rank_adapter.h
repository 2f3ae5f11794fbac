#pragma once
// delta(x) = s B A x: the parametrisation shared by LoRA and its relatives (Hu et al. 2021, eq. 3).
// A: r x d_in, B: d_out x r. After anchor() the forward is s (B A - B0 A0) x with (B0, A0) the
// factors folded into the base; where A is not trained, s (B - B0) A, one term as well in what is
// exported.
// Exports carry s and the share in B.
#include <cstdint>
#include <memory>
#include <optional>

#include "adapter/adapter.h"
#include "adapter/seeded_factors.h"

namespace strata::adapter {

struct LowRankOptions {
  double scale = 1.0;
  double dropout = 0.0;
  double lr_ratio_b = 1.0;
  bool train_a = true;
  bool orthogonal = false;     // A starts with orthogonal rows of length sqrt(d_in / r)
  double share = 1.0;          // of what is exported: 1/N of N heads
  std::uint64_t shared_a = 0;  // non-zero: A is the same for all clients and comes from `shared`
  sys::Stream shared{0};
  std::optional<SeededFactors> seeded = {};  // A is drawn from there and not sent
};

[[nodiscard]] std::unique_ptr<Adapter> make_low_rank(const LinearShape& shape, std::size_t rank,
                                                     const LowRankOptions& options);

}  // namespace strata::adapter

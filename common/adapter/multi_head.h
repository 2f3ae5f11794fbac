#pragma once
// N heads on one linear layer, each an adapter of its own that sees its own rows of a batch, over
// one frozen base (LTE, Huh et al. 2024, arXiv 2402.16828): the base's products run once over all
// rows, the heads' each over their own.
//   forward    y[rows of h] += s B_h A_h x[rows of h]
//   delta      (1/N) sum_h s B_h A_h  = [s/N B_1 ... s/N B_N] [A_1; ...; A_N]: one term of rank N r
// Without rows by head (evaluation) every row gets the mean of the heads.
#include <memory>
#include <vector>

#include "adapter/adapter.h"

namespace strata::adapter {

/// `heads` (at least two) are of one layer and one rank, made with share 1/N, and export one term
/// each, and one more after anchor() if A is trained.
[[nodiscard]] std::unique_ptr<Adapter> make_multi_head(std::vector<std::unique_ptr<Adapter>> heads);

}  // namespace strata::adapter

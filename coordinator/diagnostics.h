#pragma once
// What tells whether parallel heads explore different directions and what their merges add up to:
//   effective rank   exp(-sum_i q_i ln q_i), q_i = sigma_i / sum sigma, of W_t - W_0 (Roy &
//   Vetterli
//                    2007): 1 for one direction, the layer's smaller side for all alike
//   stable rank      ||.||_F^2 / sigma_1^2 of the same
//   alignment        mean over pairs of heads of ||Q_i^T Q_j||_F^2 / r, the mean squared cosine of
//                    the principal angles between the spaces that their B (or A) span: r / d of
//                    random ones, 1 of equal ones
// For people; nothing is decided by it. Singular values of a whole layer cost O(d_out d_in min): on
// request only.
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "coordinator/aggregator/aggregator.h"
#include "model/model.h"
#include "tensor/team.h"

namespace strata::coordinator {

struct TensorDiagnostics {
  std::string tensor;
  double effective_rank = 0.0;
  double stable_rank = 0.0;
  double change_norm = 0.0;  // ||W_t - W_0||_F
  /// NaN with fewer than two heads whose factors are not zero.
  double alignment_b = std::numeric_limits<double>::quiet_NaN();
  double alignment_a = std::numeric_limits<double>::quiet_NaN();
};

/// Of the tensors that adapters changed, in name order: `now` against `first`, and the heads of
/// `updates` (whose number each client's entry of `heads` says; 1 when it has none) against each
/// other. kIo when an update cannot be read.
[[nodiscard]] Result<std::vector<TensorDiagnostics>> diagnose(
    const UpdateSet& updates, const std::map<std::string, std::size_t>& heads,
    const model::Model& first, const model::Model& now, tensor::Team* team);

}  // namespace strata::coordinator

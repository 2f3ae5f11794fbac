#pragma once
// Data-parallel training: packets are mean gradients, and every party takes the step that a single
// machine with all the records would take.
//   g = sum_k p_k g_k;   W <- optimizer(W, g, learning_rate * schedule(round - 1))
// The gradient is clipped to training.max_grad_norm as a whole, after it was averaged.
#include <memory>

#include "base/result.h"
#include "client/training_config.h"
#include "model/fold_rule.h"

namespace strata::client {

/// For a run of `rounds` steps. kConfig as the optimizer and the schedule have it.
[[nodiscard]] Result<std::unique_ptr<model::FoldRule>> make_descent_rule(
    const TrainingConfig& training, std::int64_t rounds);

}  // namespace strata::client

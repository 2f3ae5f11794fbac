#pragma once
// The gradient of a loss by a model's own weights, over records of clients: what aggregation.
// diagnostics compares merges with (coordinator/merge_descent.h).
#include <span>

#include "client/training_config.h"
#include "model/decoder.h"
#include "text/example.h"

namespace strata::client {

/// Adds the gradient of `share` times the loss of `model` on `examples` to `gradients`, by the
/// tensors that these hold, and returns the loss: the mean over `heads` of the mean token loss of
/// each one's equal number of neighbouring examples (of which there are a multiple of heads), as a
/// training step has it. Passes are cut as `training` says; 0 when there are no examples.
double add_loss_gradient(const model::Model& model, std::span<const text::Example> examples,
                         std::size_t heads, double share, const TrainingConfig& training,
                         model::Workspace& workspace, model::FullGradients& gradients);

}  // namespace strata::client

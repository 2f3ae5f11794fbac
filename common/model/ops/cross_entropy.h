#pragma once
// Softmax cross-entropy of rows of logits (N x V) against target ids.
//   loss[n] = log sum_v exp(z[n,v]) - z[n,target[n]],   dz[n] = weight[n] (softmax(z[n]) -
//   onehot(target[n]))
#include <cstdint>
#include <span>

#include "tensor/matrix.h"

namespace strata::model {

/// Writes loss[n]; when `weights` is not empty the logits are overwritten by dz. `correct[n]` (if
/// not empty) says whether the largest logit is the target.
void cross_entropy(std::span<float> loss, tensor::MatrixView logits,
                   std::span<const std::int32_t> targets, std::span<const float> weights,
                   std::span<std::uint8_t> correct);

}  // namespace strata::model

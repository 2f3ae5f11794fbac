#pragma once
// How far what heads learned points where the whole model's loss falls fastest:
//   cos(-G, dW) = -<G, dW> / (||G|| ||dW||)   over all adapted tensors together,
// G the gradient of the loss by the weights themselves, before the round, and dW the heads' mean
// change in it. Low ranks and many steps keep it well below 1.
#include "adapter/delta_terms.h"
#include "model/decoder.h"

namespace strata::client {

/// NaN when either is zero. `gradients` holds those of every tensor of `change`, whose low-rank
/// terms are looked at.
[[nodiscard]] double descent_cosine(const model::Model& base, const model::FullGradients& gradients,
                                    const adapter::DeltaTerms& change);

}  // namespace strata::client

#pragma once
// Folding an adapter read from disk into a model, with the merge that rounds use: the same bits as
// if a round had sent it.
#include <filesystem>
#include <string>

#include "base/result.h"
#include "export/peft.h"
#include "model/model.h"

namespace strata::exporting {

/// Whether every layer of the adapter exists in the model with that shape; kFormat naming folder,
/// layer and both shapes.
[[nodiscard]] Result<void> check_fits(const model::Model& model, const PeftAdapter& peft,
                                      const std::string& where);

/// W <- f32(W + scale B A) for every adapted layer. Checks everything before it changes anything.
[[nodiscard]] Result<void> fold_adapter(model::Model& model, const PeftAdapter& peft,
                                        const std::string& where, tensor::Team* team = nullptr);

}  // namespace strata::exporting

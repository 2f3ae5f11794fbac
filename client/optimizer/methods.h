#pragma once
// The makers behind the registry; everybody else asks make_optimizer().
#include <memory>

#include "client/optimizer/optimizer.h"

namespace strata::client {

[[nodiscard]] std::unique_ptr<Optimizer> make_adamw(const OptimizerConfig& config);
[[nodiscard]] std::unique_ptr<Optimizer> make_sgd(const OptimizerConfig& config);

}  // namespace strata::client

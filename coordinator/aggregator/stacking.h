#pragma once
// The aggregator of flora and lte, for registry.cpp only.
#include <memory>

#include "coordinator/aggregator/aggregator.h"

namespace strata::coordinator {

[[nodiscard]] std::unique_ptr<Aggregator> make_stacking(const Weights& planned);

}  // namespace strata::coordinator

#pragma once
// The flora aggregator, for registry.cpp only.
#include <memory>

#include "coordinator/aggregator/aggregator.h"

namespace strata::coordinator {

[[nodiscard]] std::unique_ptr<Aggregator> make_stacking();

}  // namespace strata::coordinator

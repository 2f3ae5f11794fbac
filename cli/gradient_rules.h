#pragma once
// What a job whose clients tell gradients (aggregation.method "data_parallel") must agree on with
// its other sections, apart from single keys.
#include <string>

#include "cli/job.h"

namespace strata::cli {

/// kConfig naming file, key and rule. After aggregation.restart "auto" has been settled.
[[nodiscard]] Result<void> check_gradients(const Job& job, const std::string& file);

}  // namespace strata::cli

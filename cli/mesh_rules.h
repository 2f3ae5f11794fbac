#pragma once
// What a job of a mesh (aggregation.topology) must agree on with its other sections.
#include <string>

#include "cli/job.h"

namespace strata::cli {

/// kConfig naming file, key and rule.
[[nodiscard]] Result<void> check_mesh(const Job& job, const std::string& file);

}  // namespace strata::cli

#pragma once
// The `privacy` section where it meets the other sections of a job.
#include <string>

#include "cli/job.h"

namespace strata::cli {

/// What the sections say together; fills in what the privacy section takes from others. kConfig
/// naming file and key.
[[nodiscard]] Result<void> settle_privacy(Job& job, const std::string& file);

}  // namespace strata::cli

#pragma once
// The memory a whole run will need, against a limit, before anything is computed.
#include <cstddef>

#include "cli/assemble.h"

namespace strata::cli {

/// kConfig when `limit` bytes are too few for the federation on `threads` threads: see
/// check_memory() (memory_plan.h).
[[nodiscard]] Result<void> check_run_memory(const Federation& federation, const Job& job,
                                            int threads, std::size_t limit);

}  // namespace strata::cli

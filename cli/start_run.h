#pragma once
// The frame around a federation that `run` and `pretrain` share: a free place, assembly before
// anything is written, metrics, report.
#include <functional>

#include "cli/federation.h"
#include "cli/verb.h"

namespace strata::cli {

/// Checks job.output.directory, assembles, runs, reports. Nothing is written when assembly fails,
/// and nothing is left when no round could be finished; a run that fails later leaves its finished
/// rounds. With `force` an existing folder is replaced only after assembly succeeded, and never one
/// that the job reads from (kConfig).
/// `memory_limit`: bytes the run may need by plan, 0 for no limit; kConfig beyond it.
[[nodiscard]] Result<VerbOutput> start_run(const Job& job, bool force, std::size_t memory_limit,
                                           Context& context,
                                           const std::function<Result<Federation>()>& make,
                                           const Hosting& hosting = {});

}  // namespace strata::cli

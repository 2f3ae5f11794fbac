#pragma once
// `mpirun -n N strata run`: rank 0 coordinates, the others train; each holds its share of the
// clients.
#include <optional>
#include <string>

#include "cli/start_run.h"
#include "cli/verb.h"
#include "transport/mpi.h"

namespace strata::cli {

/// This process's place in a launch of several; nothing when it was started alone.
struct MpiPlace {
  transport::MpiLaunch launch;
  int rank = 0;
};
/// From the environment that the launcher made. kConfig when that is broken.
[[nodiscard]] Result<std::optional<MpiPlace>> mpi_place();

/// The part of `place` in the run of a job. Ranks other than 0 say nothing but their errors.
[[nodiscard]] Result<VerbOutput> run_by_mpi(const MpiPlace& place, const Job& job, bool force,
                                            std::size_t memory_limit, Context& context);

}  // namespace strata::cli

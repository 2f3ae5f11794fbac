#pragma once
// `mpirun -n N strata run` with aggregation.topology "mesh": every rank trains its share of the
// clients and merges what all of them send each other. Rank 0 writes the run folder and reports;
// the others keep their state in a folder of their own inside its state folder.
#include "cli/mpi_run.h"

namespace strata::cli {

/// As run_by_mpi().
[[nodiscard]] Result<VerbOutput> run_in_mesh(const MpiPlace& place, const Job& job, bool force,
                                             std::size_t memory_limit, Context& context);

}  // namespace strata::cli

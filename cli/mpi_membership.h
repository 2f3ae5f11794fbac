#pragma once
// A process's membership of an MPI job: joined when it is first needed, left at the end.
#include <memory>
#include <optional>

#include "cli/mpi_run.h"
#include "cli/verb.h"
#include "sys/executor.h"
#include "transport/mpi.h"

namespace strata::cli {

class MpiMembership {
 public:
  /// All outlive it.
  MpiMembership(const MpiPlace& place, const NetworkSection& network, Context& context)
      : place_(place), network_(network), context_(context) {}
  /// Rank 0 goes last; the others stay until it does, as long as that takes: a process that ends
  /// outside MPI may end the job.
  ~MpiMembership();
  MpiMembership(const MpiMembership&) = delete;
  MpiMembership& operator=(const MpiMembership&) = delete;

  /// kConfig when the ranks do not find each other. `mesh`: see transport/mpi.h.
  [[nodiscard]] Result<transport::MpiCluster*> join(sys::Executor& executor, bool mesh = false);

  /// What this process ends with; with nothing when rank 0 has ended the job. An error is printed
  /// here, before it leaves: that waits for the others, and the first of them that ends with an
  /// error has the launcher kill the rest.
  [[nodiscard]] Result<VerbOutput> ending(Result<VerbOutput> output) const;

  /// The same in a mesh, where every rank sees for itself that another is gone: the lowest that is
  /// left says so, once it has left and knows that it is the lowest.
  [[nodiscard]] Result<VerbOutput> ending_in_mesh(Result<VerbOutput> output);

 private:
  [[nodiscard]] bool a_lower_rank_is_left() const;

  const MpiPlace& place_;
  const NetworkSection& network_;
  Context& context_;
  std::unique_ptr<transport::MpiCluster> cluster_;
  std::optional<Error> untold_;
};

}  // namespace strata::cli

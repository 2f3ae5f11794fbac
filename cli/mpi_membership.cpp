#include "cli/mpi_membership.h"

#include "cli/network_limits.h"

namespace strata::cli {
namespace {

constexpr double kJoinSeconds = 3600;    // the others wait while rank 0 loads and evaluates
constexpr double kFarewellSeconds = 60;  // for ranks that are still at their last round
constexpr double kForeverSeconds = 1e7;

}  // namespace

MpiMembership::~MpiMembership() {
  if (!cluster_) return;
  const double wait = place_.rank == 0 ? kFarewellSeconds : kForeverSeconds;
  if (!cluster_->finish(wait)) context_.leave_at_once = true;
  if (untold_ && !a_lower_rank_is_left()) (void)context_.tell(*untold_);
}

// Those said farewell.
bool MpiMembership::a_lower_rank_is_left() const {
  for (int rank = 0; rank < place_.rank; ++rank) {
    if (cluster_->has_left(rank)) return true;
  }
  return false;
}

Result<transport::MpiCluster*> MpiMembership::join(sys::Executor& executor, bool mesh) {
  if (cluster_) return cluster_.get();
  transport::MpiOptions options = mpi_options(network_);
  options.join_s = kJoinSeconds;
  options.mesh = mesh;
  auto joined = transport::join_mpi(executor, context_.clock, {}, options);
  if (!joined) return fail(std::move(joined).error());
  if (auto whole = transport::check_launch(place_.launch, (*joined)->size()); !whole)
    return fail(std::move(whole).error());
  cluster_ = std::move(*joined);
  return cluster_.get();
}

Result<VerbOutput> MpiMembership::ending(Result<VerbOutput> output) const {
  if (output || !context_.tell) return output;
  VerbOutput told;
  told.silent = true;
  // Rank 0 has stopped in good order and said why: its status is the job's.
  const bool stopped = output.error().code == ErrorCode::kInterrupted;
  if (stopped && cluster_ && cluster_->has_left(0)) return told;
  told.status = context_.tell(output.error());
  return told;
}

Result<VerbOutput> MpiMembership::ending_in_mesh(Result<VerbOutput> output) {
  const bool others_see =
      !output && output.error().code == ErrorCode::kPeer && cluster_ && place_.rank > 0;
  if (!others_see || !context_.tell) return ending(std::move(output));
  untold_ = std::move(output).error();
  VerbOutput told;
  told.status = exit_status(untold_->code);
  told.silent = true;
  return told;
}

}  // namespace strata::cli

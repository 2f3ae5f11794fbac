#include "cli/mpi_membership.h"

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
}

Result<transport::MpiCluster*> MpiMembership::join(sys::Executor& executor, bool mesh) {
  if (cluster_) return cluster_.get();
  transport::MpiOptions options;
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
  told.status = context_.tell(output.error());
  told.silent = true;
  return told;
}

}  // namespace strata::cli

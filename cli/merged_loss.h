#pragma once
// Which loss aggregation.diagnostics looks at when a round is merged, and on whose records.
#include <functional>
#include <span>

#include "cli/job.h"
#include "client/local_trainer.h"
#include "coordinator/merge_descent.h"

namespace strata::cli {

/// Null unless the job asks for diagnostics and is not private. Where all clients of a round are
/// among `trainers`: the mean, by their shares, of their losses on as many of their first records
/// as a step has, each the mean over its heads. Else that on `held_out`, as many as all clients'
/// steps have; nothing without any, and in a first round that begins on an adapter beside the
/// model. kInterrupted when stopped. Borrows what it is given.
[[nodiscard]] coordinator::LossOfMerged loss_of_merged(
    const Job& job, std::span<const client::LocalTrainer> trainers,
    std::span<const text::Example> held_out, int threads, std::function<bool()> stopped);

}  // namespace strata::cli

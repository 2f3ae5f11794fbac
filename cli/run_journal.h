#pragma once
// What a run's journal tells, each record checked against those before it: for commands that look
// at a run without taking part in it.
#include <filesystem>
#include <functional>

#include "cli/job.h"
#include "coordinator/round_machine.h"

namespace strata::cli {

/// What the round machine of a job's run is made from; its clients are the job's.
[[nodiscard]] coordinator::MachineConfig machine_config(const Job& job);

/// Hears every record, with the machine as it is after it.
using SeeRecord =
    std::function<void(const coordinator::RoundRecord&, const coordinator::RoundMachine&)>;

/// From the journal in run folder `folder`, also while the run is going on. kFileMissing, kIo;
/// kDamaged for records that cannot follow each other in a run of this job.
[[nodiscard]] Result<coordinator::RoundMachine> read_run_journal(
    const sys::Disk& disk, const std::filesystem::path& folder, const Job& job,
    const SeeRecord& see = {});

}  // namespace strata::cli

#include "cli/run_journal.h"

#include "cli/run_folder.h"
#include "journal/journal.h"

namespace strata::cli {

coordinator::MachineConfig machine_config(const Job& job) {
  coordinator::MachineConfig out{
      .clients = {},
      .rounds = static_cast<std::uint32_t>(job.aggregation.rounds),
      // That somebody was missing would show in a round that fails for it.
      .quorum = job.privacy.mode == "client_central"
                    ? 0
                    : static_cast<std::uint32_t>(job.aggregation.min_clients),
      .per_round = static_cast<std::uint32_t>(job.aggregation.clients_per_round),
      .seed = static_cast<std::uint64_t>(job.training.seed)};
  for (const auto& client : job.clients) out.clients.push_back(client.name);
  return out;
}

Result<coordinator::RoundMachine> read_run_journal(const sys::Disk& disk,
                                                   const std::filesystem::path& folder,
                                                   const Job& job, const SeeRecord& see) {
  coordinator::RoundMachine machine(machine_config(job));
  auto records = journal::Journal::read(disk, folder / kStateFolder / "journal" / "000001.log",
                                        coordinator::kRoundJournal);
  if (!records) return fail(std::move(records).error());
  for (const auto& record : *records) {
    auto round = coordinator::round_record(record);
    if (!round) return fail(std::move(round).error());
    if (auto applied = machine.apply(*round); !applied) return fail(std::move(applied).error());
    if (see) see(*round, machine);
  }
  return machine;
}

}  // namespace strata::cli

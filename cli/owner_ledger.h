#pragma once
// A data owner's ledger and policy as the commands use them: where they lie, how a client's records
// become a data set in it, and what a round is charged as.
#include <filesystem>
#include <memory>
#include <span>
#include <string>

#include "cli/job.h"
#include "client/budget.h"
#include "privacy/ledger/ledger.h"
#include "privacy/promise.h"
#include "sys/clock.h"
#include "sys/disk.h"
#include "text/record.h"

namespace strata::cli {

/// What a data owner allows, whatever a plan says: `policy.json` in the folder of the ledger.
struct OwnerPolicy {
  bool given = false;
  std::vector<std::string> modes;  // allowed; empty: any
  std::vector<std::string> units;
  std::optional<double> max_epsilon, max_delta;            // of a run
  std::optional<double> lifetime_epsilon, lifetime_delta;  // of a data set, over all runs
  std::optional<double> min_noise_multiplier;
};

/// `path`, or the user's own below $XDG_STATE_HOME or ~/.local/state. kConfig when there is
/// neither.
[[nodiscard]] Result<std::filesystem::path> ledger_folder(const std::string& path);

/// The policy of the folder; nothing is allowed less where there is none. kConfig naming file and
/// key.
[[nodiscard]] Result<OwnerPolicy> read_policy(const sys::Disk& disk,
                                              const std::filesystem::path& folder);
/// Whether the owner takes part in what is promised (nothing for mode "none"): kBudget or kConfig
/// naming the rule of the policy.
[[nodiscard]] Result<void> check_policy(const OwnerPolicy& policy,
                                        const std::optional<privacy::Promise>& promise,
                                        const std::filesystem::path& folder);

/// Computes what a ledger's charges come to, for neighbours of that kind.
[[nodiscard]] ledger::EpsilonOf epsilon_of(privacy::Adjacency adjacency, double eps_tolerance);

/// A ledger in which a data set is known, and what a round of the job is charged to it as; `run`
/// and `round` of the reservation are to be filled in.
struct OpenLedger {
  std::unique_ptr<sys::Clock> clock;  // the ledger's
  ledger::Ledger ledger;
  ledger::Reservation round;
};

/// Begins a ledger where the job's folder does not exist yet, and makes `rows` known in it as the
/// data set `id`. Errors as open_budget().
[[nodiscard]] Result<OpenLedger> open_ledger(sys::Disk& disk, const Job& job,
                                             const privacy::Promise& promise, const std::string& id,
                                             std::span<const std::string> rows);

/// The budget of one private client. Begins a ledger where the folder does not exist yet, and makes
/// the client's records known in it; charges nothing. kBudget, kConfig, kDamaged, kUnsupported as
/// Ledger.
[[nodiscard]] Result<std::unique_ptr<client::Budget>> open_budget(
    sys::Disk& disk, const Job& job, const privacy::Promise& promise, const std::string& client,
    std::span<const text::Record> records);

/// The policy that lies where the job's ledger does, and whether it allows the job.
[[nodiscard]] Result<void> check_owner(const sys::Disk& disk, const Job& job,
                                       const std::optional<privacy::Promise>& promise);

/// The name of a client's data set in the ledger.
[[nodiscard]] std::string dataset_of(const Job& job, const std::string& client);

}  // namespace strata::cli

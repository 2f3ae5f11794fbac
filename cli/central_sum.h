#pragma once
// The coordinator's part of client_central: its own ledger, in which a federation is a data set
// whose rows are the clients, and the sum that is clipped and noised here.
#include <memory>
#include <optional>

#include "cli/job.h"
#include "coordinator/private_sum.h"
#include "privacy/promise.h"
#include "sys/disk.h"

namespace strata::cli {

class CentralSum : public coordinator::PrivateSum {
 public:
  /// The refusal of a round, once there was one: what the coordinator's user is told.
  [[nodiscard]] virtual const std::optional<Error>& refusal() const = 0;
};

/// Of a job whose mode is client_central, for rounds of `values` numbers. Begins the ledger where
/// there is none yet; charges nothing. With seeded noise there is no ledger. kBudget, kConfig,
/// kDamaged, kUnsupported as Ledger.
[[nodiscard]] Result<std::shared_ptr<CentralSum>> open_central_sum(sys::Disk& disk, const Job& job,
                                                                   const privacy::Promise& promise,
                                                                   std::size_t values);

/// w_max: the largest weight that a client of the job's plan may have.
[[nodiscard]] double weight_max(const Job& job);

}  // namespace strata::cli

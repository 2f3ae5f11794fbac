#pragma once
// One audited run of a private client: the trainer that trains in every run, on drawn records, with
// canaries planted in its steps. No client's record is read.
#include <cstdint>
#include <vector>

#include "adapter/adapter.h"
#include "cli/verb.h"
#include "client/private_gradient.h"
#include "client/training_config.h"
#include "model/model.h"
#include "privacy/audit/canaries.h"
#include "privacy/promise.h"
#include "protocol/messages.h"

namespace strata::cli {

struct AuditRequest {
  adapter::AdapterConfig adapter;
  client::TrainingConfig training;  // whose steps of a round are those of the schedule
  client::DpSgdConfig mechanism;
  privacy::Schedule schedule;
  protocol::Restart restart = protocol::Restart::kFresh;
  privacy::Epsilon claimed;
  privacy::Delta delta;
  double confidence = 0.95;
  std::size_t canaries = 0;  // 0: as many as could show that the claim is broken
  std::size_t records = 16;  // drawn ones that train beside them
  std::uint64_t seed = 0;    // of coins and places
};

struct AuditReport {
  std::size_t canaries = 0, planted = 0, values = 0;
  std::int64_t releases = 0;
  std::vector<privacy::AuditFinding> findings;
  privacy::AuditVerdict verdict = privacy::AuditVerdict::kInconclusive;
};

/// kConfig for more canaries than trained values; kInterrupted when stopped.
[[nodiscard]] Result<AuditReport> audit_run(const AuditRequest& request, const model::Model& base,
                                            Context& context);

}  // namespace strata::cli

#pragma once
// What the parties of a run agree on, as JSON: the parts of a job that decide what a client trains
// and sends. Paths, records and what only one party does are not part of it.
#include <map>
#include <string>

#include "cli/job.h"

namespace strata::cli {

/// Of one job, worked out once: its clients may be many.
class Plan {
 public:
  explicit Plan(const Job& job);
  /// Of all clients: names the run.
  [[nodiscard]] const std::string& whole() const { return whole_; }
  /// As the coordinator sends it to a client of the job: the shared part, and this client's.
  [[nodiscard]] std::string of(const std::string& client) const;

 private:
  std::string whole_;
  std::string shared_;                          // ends before the client's part
  std::map<std::string, std::string> clients_;  // each client's part
};

/// kConfig naming the first key path at which the coordinator's plan differs from one's own;
/// kProtocol for one that is no plan.
[[nodiscard]] Result<void> compare_plans(const std::string& theirs, const std::string& mine);

/// A client that holds no job of its own: where its things are.
struct ClientFile {
  std::string name;  // for errors
  std::string model;
  std::string dtype = "f32";
  std::string data;
  std::map<std::string, std::string> fields;
  privacy::LedgerConfig ledger;  // the data owner's own
};
/// The job that a plan and the client's own file make together.
[[nodiscard]] Result<Job> job_from_plan(const std::string& plan, const ClientFile& own);

}  // namespace strata::cli

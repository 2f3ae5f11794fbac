#pragma once
// What the parties of a run agree on, as JSON: the parts of a job that decide what a client trains
// and sends. Paths, records and what only one party does are not part of it.
#include <string>

#include "cli/job.h"

namespace strata::cli {

/// Of all clients: names the run.
[[nodiscard]] std::string shared_plan(const Job& job);
/// As the coordinator sends it to a client: the shared part, and this client's.
[[nodiscard]] std::string plan_for(const Job& job, const std::string& client);
/// kConfig naming the first key path at which the coordinator's plan differs from one's own.
[[nodiscard]] Result<void> compare_plans(const std::string& theirs, const std::string& mine);

/// A client that holds no job of its own: where its things are.
struct ClientFile {
  std::string name;  // for errors
  std::string model;
  std::string dtype = "f32";
  std::string data;
  std::map<std::string, std::string> fields;
};
/// The job that a plan and the client's own file make together.
[[nodiscard]] Result<Job> job_from_plan(const std::string& plan, const ClientFile& own);

}  // namespace strata::cli

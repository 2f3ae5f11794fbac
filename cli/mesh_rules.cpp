#include "cli/mesh_rules.h"

#include <fmt/format.h>

#include "cli/refusal.h"

namespace strata::cli {

Result<void> check_mesh(const Job& job, const std::string& file) {
  if (job.aggregation.topology != "mesh") return {};
  const Refusal refuse{file};
  const auto clients = static_cast<std::int64_t>(job.clients.size());
  if (job.aggregation.clients_per_round != 0 && job.aggregation.clients_per_round != clients)
    return refuse("aggregation.clients_per_round",
                  fmt::format("is {}", job.aggregation.clients_per_round),
                  "the members of a mesh go in step: every client takes part in every round",
                  "leave it out, or set aggregation.topology to \"star\"");
  if (job.privacy.on())
    return refuse("privacy.mode", "is \"" + job.privacy.mode + "\"",
                  "a mesh is of one owner's cluster, and a client that its budget keeps out would "
                  "end the run of all",
                  "set aggregation.topology to \"star\"");
  return {};
}

}  // namespace strata::cli

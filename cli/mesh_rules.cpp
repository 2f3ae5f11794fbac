#include "cli/mesh_rules.h"

#include <fmt/format.h>

#include "cli/refusal.h"

namespace strata::cli {

namespace {

// Everybody's factors go on, and everybody takes part in everything.
Result<void> check_overlap(const Job& job, const Refusal& refuse) {
  const auto& a = job.aggregation;
  if (!a.overlap) return {};
  if (a.topology != "mesh")
    return refuse("aggregation.overlap", "is true",
                  "only the members of a mesh train ahead of a merge",
                  "set aggregation.topology to \"mesh\"");
  const auto entry = coordinator::find_aggregator(a.method);
  const bool keeps = entry && !(*entry)->averages_factors && !(*entry)->gradients;
  if (!keeps || a.restart != "keep")
    return refuse("aggregation.overlap", "is true",
                  "a client carries what it did in the round before as factors that it keeps",
                  "use method \"lte\" or \"flora\" with restart \"keep\"");
  for (const auto& client : job.clients) {
    if (client.adapter.method == "full")
      return refuse("aggregation.overlap", "is true", client.name + " trains the whole model",
                    "give it an adapter method");
  }
  return {};
}

Result<void> check_exchange(const Job& job, const Refusal& refuse) {
  const auto& a = job.aggregation;
  if (a.exchange != "scatter") return {};
  const auto no = [&](std::string rule, std::string remedy) {
    return refuse("aggregation.exchange", "is \"scatter\"", std::move(rule), std::move(remedy));
  };
  if (a.topology != "mesh")
    return no("only the members of a mesh merge a part each",
              "set aggregation.topology to \"mesh\"");
  const auto entry = coordinator::find_aggregator(a.method);
  if (entry && (*entry)->averages_factors)
    return no(a.method + " leaves averaged factors beside the model, which are no part of it",
              "use method \"flora\", \"lte\" or \"data_parallel\"");
  if (a.diagnostics)
    return no("aggregation.diagnostics compares whole updates, of which a rank has a part only",
              "leave one of the two out");
  if (job.output.keep_updates)
    return no("output.keep_updates keeps whole updates, of which a rank has a part only",
              "leave one of the two out");
  return {};
}

}  // namespace

Result<void> check_mesh(const Job& job, const std::string& file) {
  if (auto able = check_exchange(job, Refusal{file}); !able) return able;
  if (auto able = check_overlap(job, Refusal{file}); !able) return able;
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

#include "cli/head_rules.h"

#include <fmt/format.h>

#include <cmath>

#include "cli/refusal.h"

namespace strata::cli {
namespace {

// Merges within a round.
Result<void> check_merges(const Job& job, const Refusal& refuse) {
  const auto& t = job.training;
  const bool merges = t.merge_every.has_value();
  if (merges && *t.merge_every != std::floor(*t.merge_every))
    return refuse("training.merge_every", fmt::format("is {:g}", *t.merge_every),
                  "heads merge after whole steps");
  const auto& g = job.aggregation;
  const auto entry = coordinator::find_aggregator(g.method);
  const bool averages = entry && (*entry)->averages_factors;
  if (merges && averages)
    return refuse("training.merge_every", fmt::format("is {:g}", *t.merge_every),
                  g.method +
                      " averages one pair of factors of each client, which has nothing to "
                      "merge between rounds",
                  "leave it out, or use aggregation.method \"lte\" or \"flora\"");
  // The coordinator knows beforehand how much an update holds.
  if (merges && g.restart == "fresh" &&
      (t.local_steps == 0 || (t.max_steps > 0 && t.max_steps < t.local_steps * g.rounds)))
    return refuse(
        "training.merge_every", fmt::format("is {:g}", *t.merge_every),
        "with new factors after each merge an update holds those of all merges of a round, "
        "whose number must be the same in every round",
        "set training.local_steps, and leave max_steps out");
  const bool all_come =
      g.clients_per_round == 0 && g.min_clients == static_cast<std::int64_t>(job.clients.size());
  if (entry && (*entry)->fixed_shares && g.restart == "keep" && !job.adapter.init.empty() &&
      !all_come)
    return refuse(
        "adapter.init", "is given",
        "with shares that the plan fixes, the part of a client that misses the first merge "
        "would be lost",
        "set aggregation.min_clients to the number of clients, or use method \"flora\"");
  return {};
}

}  // namespace

Result<void> check_heads(const Job& job, const std::string& file) {
  const Refusal refuse{file};
  if (auto ok = check_merges(job, refuse); !ok) return ok;
  const auto& t = job.training;
  const auto& g = job.aggregation;
  const std::int64_t records = t.batch_size * t.gradient_accumulation;
  const bool merges = t.merge_every.has_value();
  const auto entry = coordinator::find_aggregator(g.method);
  const bool averages = entry && (*entry)->averages_factors;
  for (std::size_t i = 0; i < job.clients.size(); ++i) {
    const auto& a = job.clients[i].adapter;
    const std::string key = fmt::format("clients[{}].adapter", i);
    const auto method = adapter::find_method(a.method);
    const bool own = method && (*method)->own_factors;
    // A private step draws units, not batches.
    if (job.privacy.mode != "example_dpsgd" && records % a.heads != 0)
      return refuse(key + ".heads", fmt::format("is {}", a.heads),
                    fmt::format("heads have equal parts of a step's {} records (batch_size times "
                                "gradient_accumulation)",
                                records),
                    "choose a batch_size that they divide");
    if (a.heads > 1 && !own)
      return refuse(key + ".heads", fmt::format("is {}", a.heads),
                    fmt::format("method \"{}\" has no factors that are a head's own", a.method),
                    "use method \"lte\" or \"lora\"");
    if (merges && !own)
      return refuse("training.merge_every", fmt::format("is {:g}", *t.merge_every),
                    fmt::format("{} trains by \"{}\", which has no factors to merge between rounds",
                                job.clients[i].name, a.method),
                    "leave it out, or use method \"lte\" or \"lora\"");
    if (merges && job.privacy.mode == "client_local" && job.aggregation.restart != "keep")
      return refuse("training.merge_every", fmt::format("is {:g}", *t.merge_every),
                    "the noise of client_local is added to one pair of factors, which a merge with "
                    "fresh ones leaves behind",
                    "leave it out, or set aggregation.restart to \"keep\"");
    if (averages && !a.modules_to_save.empty())
      return refuse(key + ".modules_to_save", "is given",
                    g.method + " leaves the base as it is and averages factors beside it",
                    "leave it out, or use aggregation.method \"flora\"");
    if (a.method == "full" && !a.modules_to_save.empty())
      return refuse(key + ".modules_to_save", "is given", "\"full\" trains every parameter");
    if (a.freeze_a && a.method == "full")
      return refuse(key + ".freeze_a", "is true", "\"full\" has no factors, of which A is one",
                    "leave it out, or use method \"lora\" or \"lte\"");
  }
  return {};
}

}  // namespace strata::cli

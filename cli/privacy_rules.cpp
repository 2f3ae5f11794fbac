#include "cli/privacy_rules.h"

#include <fmt/format.h>

#include <algorithm>

#include "adapter/adapter.h"
#include "cli/refusal.h"

namespace strata::cli {
namespace {

// Both sections may say how long a run is; one of them must, and they must agree.
Result<void> settle_steps(Job& job, const Refusal& refuse) {
  auto& steps = job.privacy.steps;
  auto& training = job.training;
  if (job.privacy.mode != "example_dpsgd") {
    if (steps.local_per_round > 1)
      return refuse("privacy.steps.local_per_round", fmt::format("is {}", steps.local_per_round),
                    job.privacy.mode + " makes noise once in a round");
    steps.local_per_round = 1;
    return {};
  }
  if (training.max_steps > 0)
    return refuse("training.max_steps", fmt::format("is {}", training.max_steps),
                  "a private run's steps are counted by round: training.local_steps");
  if (steps.local_per_round == 0) steps.local_per_round = training.local_steps;
  if (training.local_steps == 0) training.local_steps = steps.local_per_round;
  if (steps.local_per_round == 0)
    return refuse("privacy.steps.local_per_round", "is missing",
                  "the number of noisy steps must not depend on how many records there are",
                  "give it, or training.local_steps");
  if (steps.local_per_round != training.local_steps)
    return refuse("privacy.steps.local_per_round", fmt::format("is {}", steps.local_per_round),
                  fmt::format("training.local_steps is {}", training.local_steps));
  return {};
}

Result<void> settle_rounds(Job& job, const Refusal& refuse) {
  auto& rounds = job.privacy.steps.rounds;
  if (rounds == 0) rounds = job.aggregation.rounds;
  if (rounds != job.aggregation.rounds)
    return refuse("privacy.steps.rounds", fmt::format("is {}", rounds),
                  fmt::format("aggregation.rounds is {}", job.aggregation.rounds));
  const auto releases = static_cast<double>(rounds) * static_cast<double>(std::max<std::int64_t>(
                                                          1, job.privacy.steps.local_per_round));
  if (releases > 1e7)
    return refuse("privacy.steps", fmt::format("come to {:g} releases", releases),
                  "a run has at most 1e7");
  return {};
}

Result<void> settle_weights(Job& job, const Refusal& refuse) {
  const auto& weights = job.privacy.weights;
  for (std::size_t i = 0; i < job.clients.size(); ++i) {
    auto& client = job.clients[i];
    if (weights.kind == "uniform") {
      if (client.weight != 0.0 && client.weight != 1.0)
        return refuse(fmt::format("clients[{}].weight", i), fmt::format("is {:g}", client.weight),
                      "privacy.weights.kind is \"uniform\"",
                      "set that to \"public\" and give privacy.weights.values");
      client.weight = 1.0;
      continue;
    }
    const auto found = std::find_if(weights.values.begin(), weights.values.end(),
                                    [&](const auto& v) { return v.first == client.name; });
    if (found == weights.values.end())
      return refuse("privacy.weights.values", "has no weight for " + client.name,
                    "every client has one");
    client.weight = found->second;
  }
  return {};
}

// Evaluation on private records would tell of them.
Result<void> check_evaluation(const Job& job, const Refusal& refuse) {
  if (job.data.held_out_fraction > 0.0)
    return refuse("data.held_out_fraction", fmt::format("is {:g}", job.data.held_out_fraction),
                  "the loss on clients' own records is not told in a private run",
                  "give public records as evaluation.data");
  if (!job.evaluation.data.empty() && job.privacy.metrics.eval != "public_data")
    return refuse("privacy.metrics.eval", fmt::format("is \"{}\"", job.privacy.metrics.eval),
                  "evaluation.data may be used when its records are public",
                  "set it to \"public_data\" if they are, or remove evaluation.data");
  return {};
}

// Updates that enter a sum: on one A that all have, or on factors that all begin with.
Result<void> check_sum_shaped(const Job& job, const Refusal& refuse) {
  const auto& a = job.aggregation;
  const bool averages = a.method != "flora" && a.method != "lte";
  if (a.max_update_norm > 0.0)
    return refuse("aggregation.max_update_norm", fmt::format("is {:g}", a.max_update_norm),
                  "client_central clips each client's update to a norm instead", "leave it out");
  if (a.diagnostics)
    return refuse("aggregation.diagnostics", "is true",
                  "under client_central nothing is told of single clients' updates",
                  "leave it out");
  if (job.training.merge_every)
    return refuse("training.merge_every", fmt::format("is {:g}", *job.training.merge_every),
                  "client_central adds up what clients change of common factors", "leave it out");
  for (std::size_t i = 0; i < job.clients.size(); ++i) {
    const std::string key = fmt::format("clients[{}].adapter.method", i);
    const std::string& method = job.clients[i].adapter.method;
    if (method != job.clients.front().adapter.method)
      return refuse(key, "is \"" + method + "\", that of another client is not",
                    "client_central adds up what clients change of common factors",
                    "give all clients the same method");
    const auto& own = job.clients[i].adapter;
    if (own.heads > 1 || method == "lte")
      return refuse(key, own.heads > 1 ? fmt::format("has {} heads", own.heads) : "is \"lte\"",
                    "client_central adds up what clients change of one common pair, of which a "
                    "smaller rank has the first rows",
                    "use \"seeded-a\", \"ffa\" or \"lora\"");
    auto known = adapter::find_method(method);
    const bool one_a = method == "ffa" || method == "full" || (known && (*known)->seeded);
    if (!averages && !one_a)
      return refuse("aggregation.method",
                    "is \"" + a.method + "\" with adapter.method \"" + method + "\"",
                    "stacking shows each client's part to everybody, so the coordinator's noise "
                    "would come too late",
                    "use \"fedavg\" or \"zero_pad\", adapter.method \"seeded-a\" or \"ffa\", or "
                    "privacy.mode \"example_dpsgd\" with stacking");
  }
  if (a.restart == "keep")
    return refuse("aggregation.restart", "is \"keep\"",
                  "under client_central all clients begin a round with the same factors",
                  "set it to \"fresh\"");
  if (averages && a.encoding != "f32")
    return refuse("aggregation.encoding", "is \"" + a.encoding + "\"",
                  "what a client changed is found as a difference of whole factors, whose rounding "
                  "would drown it",
                  "use \"f32\", or \"flora\" with adapter.method \"seeded-a\"");
  return {};
}

Result<void> check_central(const Job& job, const Refusal& refuse) {
  const auto& p = job.privacy;
  if (auto sums = check_sum_shaped(job, refuse); !sums) return sums;
  if (job.aggregation.min_clients > 1)
    return refuse(
        "aggregation.min_clients", fmt::format("is {}", job.aggregation.min_clients),
        "a round that failed for want of clients would tell that they were missing: under "
        "client_central it closes with whoever came",
        "leave it out");
  if (*p.budget.delta * static_cast<double>(job.clients.size()) >= 1.0)
    return refuse("privacy.budget.delta", fmt::format("is {:g}", *p.budget.delta),
                  "delta is below 1 / (number of clients)", "lower it");
  return {};
}

Result<void> check_mode(const Job& job, const Refusal& refuse) {
  const auto& p = job.privacy;
  for (std::size_t i = 0; i < job.clients.size(); ++i) {
    if (!job.clients[i].adapter.modules_to_save.empty())
      return refuse(fmt::format("clients[{}].adapter.modules_to_save", i), "is given",
                    "what a private run clips is of adapters only", "leave it out");
  }
  if (p.mode == "client_central") return check_central(job, refuse);
  if (p.mode == "client_local" && p.clip.kind == "adaptive")
    return refuse("privacy.clip.kind", "is \"adaptive\"",
                  "a client that is one unit has no quantile of norms", "use \"flat\"");
  for (std::size_t i = 0; i < job.clients.size(); ++i) {
    if (job.clients[i].adapter.method == "full")
      return refuse(fmt::format("clients[{}].adapter.method", i), "is \"full\"",
                    "each unit's own gradient is clipped, which needs an adapter method");
  }
  return {};
}

}  // namespace

Result<void> settle_privacy(Job& job, const std::string& file) {
  const Refusal refuse{file};
  if (job.privacy.mode.empty())
    return refuse("privacy", "is missing",
                  "what a run promises is said in words, also when it is "
                  "nothing",
                  "add \"privacy\": {\"mode\": \"none\"}, or a mode that protects");
  if (!job.privacy.on()) return {};
  if (auto ok = privacy::check(job.privacy, file + ": privacy"); !ok) return ok;
  if (auto ok = check_mode(job, refuse); !ok) return ok;
  if (auto ok = settle_steps(job, refuse); !ok) return ok;
  if (auto ok = settle_rounds(job, refuse); !ok) return ok;
  if (auto ok = settle_weights(job, refuse); !ok) return ok;
  // How single clients relate to the mean is not looked at.
  if (job.privacy.mode == "client_central") job.aggregation.measure = false;
  return check_evaluation(job, refuse);
}

}  // namespace strata::cli

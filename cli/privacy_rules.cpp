#include "cli/privacy_rules.h"

#include <fmt/format.h>

#include <algorithm>

namespace strata::cli {
namespace {

struct Refusal {
  const std::string& file;
  tl::unexpected<Error> operator()(std::string_view key, std::string what, std::string rule,
                                   std::string remedy = {}) const {
    return fail({.code = ErrorCode::kConfig,
                 .what = std::move(what),
                 .where = fmt::format("{}: {}", file, key),
                 .rule = std::move(rule),
                 .remedy = std::move(remedy)});
  }
};

// Both sections may say how long a run is; one of them must, and they must agree.
Result<void> settle_steps(Job& job, const Refusal& refuse) {
  auto& steps = job.privacy.steps;
  auto& training = job.training;
  if (job.privacy.mode == "client_local") {
    if (steps.local_per_round > 1)
      return refuse("privacy.steps.local_per_round", fmt::format("is {}", steps.local_per_round),
                    "client_local makes a client's update of a round noisy once");
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

Result<void> check_mode(const Job& job, const Refusal& refuse) {
  const auto& p = job.privacy;
  if (p.mode == "client_central" && job.aggregation.method == "flora")
    return refuse("aggregation.method", "is \"flora\"",
                  "stacking shows each client's part to everybody, so the coordinator's noise "
                  "would come too late",
                  "use \"fedavg\" or \"zero_pad\" with client_central, or privacy.mode "
                  "\"example_dpsgd\" with stacking");
  if (p.mode == "client_central")
    return refuse("privacy.mode", fmt::format("is \"{}\"", p.mode), "it is not built yet",
                  "use \"example_dpsgd\" or \"client_local\"");
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
  return check_evaluation(job, refuse);
}

}  // namespace strata::cli

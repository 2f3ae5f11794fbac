#include "cli/gradient_rules.h"

#include <fmt/format.h>

#include "cli/refusal.h"

namespace strata::cli {

Result<void> check_gradients(const Job& job, const std::string& file) {
  const Refusal refuse{file};
  const auto entry = coordinator::find_aggregator(job.aggregation.method);
  if (!entry || !(*entry)->gradients) return {};
  const auto& t = job.training;
  if (t.local_steps != 1)
    return refuse("training.local_steps", fmt::format("is {}", t.local_steps),
                  "data_parallel averages the gradients of one step: a round is a step",
                  "set it to 1, and aggregation.rounds to the number of steps");
  if (t.max_steps > 0)
    return refuse("training.max_steps", fmt::format("is {}", t.max_steps),
                  "data_parallel takes a step in each of aggregation.rounds", "leave it out");
  if (job.aggregation.restart == "fresh")
    return refuse("aggregation.restart", "is \"fresh\"",
                  "the optimizer of data_parallel goes on over all steps", "leave it out");
  if (job.privacy.on())
    return refuse("privacy.mode", "is \"" + job.privacy.mode + "\"",
                  "data_parallel tells gradients as they are");
  for (std::size_t i = 0; i < job.clients.size(); ++i) {
    const auto& client = job.clients[i];
    const std::string key = fmt::format("clients[{}]", i);
    if (client.adapter.method != "full")
      return refuse(key + ".adapter.method", "is \"" + client.adapter.method + "\"",
                    "data_parallel averages gradients of all parameters", "set it to \"full\"");
    if (client.weight > 0.0)
      return refuse(key + ".weight", fmt::format("is {:g}", client.weight),
                    "a gradient counts by the tokens it was made of");
  }
  return {};
}

}  // namespace strata::cli

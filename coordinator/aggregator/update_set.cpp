#include <cmath>

#include "coordinator/aggregator/aggregator.h"

namespace strata::coordinator {

Result<void> UpdateSet::add(SharedUpdate update) {
  const auto refuse = [&](std::string what, std::string rule) {
    return fail({.code = ErrorCode::kIncompatibleUpdate,
                 .what = std::move(what),
                 .where = "update of " + update->client,
                 .rule = std::move(rule),
                 .remedy = "the client is left out of this round"});
  };
  if (updates_.contains(update->client))
    return refuse("came twice", "one update per client and round");
  if (!(update->weight > 0.0) || !std::isfinite(update->weight)) {
    return refuse("weight is " + std::to_string(update->weight), "weights are positive and finite");
  }
  if (update->delta.empty())
    return refuse("changes nothing", "an update holds at least one tensor");
  if (auto ok = adapter::validate(update->delta); !ok)
    return fail(std::move(ok).error(), "update of " + update->client);
  for (const auto& [name, delta] : update->delta) {
    const auto found = tensors_.find(name);
    if (found != tensors_.end() && found->second != std::pair(delta.d_out, delta.d_in)) {
      return refuse(
          name + " is " + std::to_string(delta.d_out) + " x " + std::to_string(delta.d_in),
          "other clients have " + std::to_string(found->second.first) + " x " +
              std::to_string(found->second.second));
    }
  }
  for (const auto& [name, delta] : update->delta)
    tensors_.try_emplace(name, delta.d_out, delta.d_in);
  updates_.emplace(update->client, std::move(update));
  return {};
}

std::map<std::string, double> UpdateSet::normalised_weights() const {
  double sum = 0.0;
  for (const auto& [client, update] : updates_) sum += update->weight;
  std::map<std::string, double> out;
  for (const auto& [client, update] : updates_) out.emplace(client, update->weight / sum);
  return out;
}

}  // namespace strata::coordinator

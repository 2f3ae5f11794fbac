#include <algorithm>

#include "coordinator/aggregator/aggregator.h"

namespace strata::coordinator {

bool TensorChanges::all_dense() const {
  return std::all_of(clients.begin(), clients.end(), [](const Of& own) {
    return std::all_of(own.delta->terms.begin(), own.delta->terms.end(), [](const auto& term) {
      return std::holds_alternative<adapter::Dense>(term);
    });
  });
}

Result<void> UpdateSet::add(SharedUpdate update) {
  const auto refuse = [&](std::string what, std::string rule) {
    return fail({.code = ErrorCode::kIncompatibleUpdate,
                 .what = std::move(what),
                 .where = "update of " + update->client(),
                 .rule = std::move(rule),
                 .remedy = "the client is left out of this round"});
  };
  if (updates_.contains(update->client()))
    return refuse("came twice", "one update per client and round");
  for (const auto& [name, own] : update->outline()) {
    const auto found = tensors_.find(name);
    if (found != tensors_.end() && found->second != std::pair(own.d_out, own.d_in)) {
      return refuse(name + " is " + std::to_string(own.d_out) + " x " + std::to_string(own.d_in),
                    "other clients have " + std::to_string(found->second.first) + " x " +
                        std::to_string(found->second.second));
    }
  }
  for (const auto& [name, own] : update->outline()) tensors_.try_emplace(name, own.d_out, own.d_in);
  updates_.emplace(update->client(), std::move(update));
  return {};
}

Result<TensorChanges> UpdateSet::changes(const std::string& name) const {
  const auto [d_out, d_in] = tensors_.at(name);
  TensorChanges out{.name = name, .d_out = d_out, .d_in = d_in, .clients = {}};
  for (const auto& [client, update] : updates_) {
    if (!update->outline().contains(name)) continue;
    auto delta = update->read(name);
    if (!delta) return fail(std::move(delta).error(), "update of " + client);
    out.clients.push_back({client, std::move(*delta)});
  }
  return out;
}

Weights UpdateSet::normalised_weights(const Weights& planned) const {
  Weights out;
  double sum = 0.0;
  for (const auto& [client, weight] : planned) sum += weight;
  for (const auto& [client, update] : updates_) {
    const double own = planned.empty() ? update->weight() : planned.at(client);
    if (planned.empty()) sum += own;
    out.emplace(client, own);
  }
  for (auto& [client, share] : out) share /= sum;
  return out;
}

}  // namespace strata::coordinator

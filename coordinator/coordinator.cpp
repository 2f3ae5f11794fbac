#include "coordinator/coordinator.h"

namespace strata::coordinator {

namespace {

// Names everything the round changed: the packet, and the averaged factors where a control method
// leaves them beside the base.
Sha256 round_hash(const Aggregate& aggregate) {
  if (aggregate.mean_factors.empty()) return aggregate.packet.hash();
  Hasher hasher;
  hasher.add(aggregate.packet.hash());
  hasher.add(as_packet(aggregate.mean_factors).hash());
  return hasher.finish();
}

}  // namespace

adapter::Packet as_packet(const MeanFactors& factors) {
  adapter::Packet out;
  for (const auto& [name, pair] : factors) {
    out.tensors.emplace(
        name, adapter::PacketTensor{pair.b.rows(), pair.a.cols(), adapter::Stack{pair.b, pair.a}});
  }
  return out;
}

Coordinator::Coordinator(const AggregationConfig& config, const AggregatorEntry& entry,
                         model::Model base, int threads, std::unique_ptr<UpdateStore> store)
    : config_(config),
      entry_(&entry),
      restart_(entry.averages_factors ? protocol::Restart::kMean
                                      : (config.restart == "keep" ? protocol::Restart::kKeep
                                                                  : protocol::Restart::kFresh)),
      team_(threads),
      model_(std::move(base)),
      chain_(model_.state_hash(&team_)),
      store_(std::move(store)),
      aggregator_(entry.make()) {}

Result<Coordinator> Coordinator::make(const AggregationConfig& config, model::Model base,
                                      int threads, std::unique_ptr<UpdateStore> store) {
  auto entry = find_aggregator(config.method);
  if (!entry) return fail(std::move(entry).error());
  if ((*entry)->averages_factors && config.restart == "keep") {
    return fail({.code = ErrorCode::kConfig,
                 .what = "is \"keep\"",
                 .where = "aggregation.restart",
                 .rule = config.method + " restarts every client from the averaged factors",
                 .remedy = "leave restart out, or use method \"flora\""});
  }
  return Coordinator(config, **entry, std::move(base), threads, std::move(store));
}

Result<void> Coordinator::check_clients(std::span<const PlannedUpdate> clients) const {
  if (config_.min_clients > static_cast<std::int64_t>(clients.size())) {
    return fail({.code = ErrorCode::kConfig,
                 .what = "is " + std::to_string(config_.min_clients),
                 .where = "aggregation.min_clients",
                 .rule = "there are " + std::to_string(clients.size()) + " clients"});
  }
  return entry_->check == nullptr ? Result<void>{} : entry_->check(clients);
}

Result<void> Coordinator::accept(protocol::Update update) {
  const auto refuse = [&](std::string what, std::string rule) {
    return fail({.code = ErrorCode::kIncompatibleUpdate,
                 .what = std::move(what),
                 .where = "update of " + update.client,
                 .rule = std::move(rule)});
  };
  if (update.round != round_) {
    return refuse("is for round " + std::to_string(update.round),
                  "round " + std::to_string(round_) + " is open");
  }
  if (update.base != chain_)
    return refuse("was trained on another model", "its base must be " + hex(chain_).substr(0, 12));
  for (const auto& [name, delta] : update.delta) {
    const std::size_t at = model_.find(name);
    if (at == model::kNone)
      return refuse("changes " + printable(name, 120), "the model has no such tensor");
    const auto& parameter = model_.parameters()[at];
    if (parameter.d_out() != delta.d_out || parameter.d_in() != delta.d_in) {
      return refuse(
          name + " is " + std::to_string(delta.d_out) + " x " + std::to_string(delta.d_in),
          "the model's is " + std::to_string(parameter.d_out()) + " x " +
              std::to_string(parameter.d_in()));
    }
  }
  if (updates_.updates().contains(update.client))
    return refuse("came twice", "one update per client and round");
  if (auto good = check_update(update); !good) return good;
  auto kept = store_->put(std::move(update));
  if (!kept) return fail(std::move(kept).error());
  if (auto taken = aggregator_->accumulate(*kept); !taken) return taken;
  return updates_.add(std::move(*kept));  // for the exactness report
}

void Coordinator::fold(const adapter::Packet& packet) {
  for (const auto& [name, change] : packet.tensors) {
    auto& parameter = model_.parameters()[model_.find(name)];
    adapter::merge(parameter.master(), parameter.transposed(), change, &team_);
    parameter.refresh();
  }
}

Result<RoundReport> Coordinator::close() {
  const auto accepted = static_cast<std::int64_t>(aggregator_->accepted());
  if (accepted < config_.min_clients || accepted == 0) {
    return fail(
        {.code = ErrorCode::kQuorum,
         .what = "round " + std::to_string(round_) + " has " + std::to_string(accepted) +
                 " usable updates",
         .rule = "it needs " + std::to_string(std::max<std::int64_t>(1, config_.min_clients)),
         .remedy = "see the refusals above, or lower aggregation.min_clients"});
  }
  auto aggregate = std::move(*aggregator_).report(&team_);
  if (!aggregate) return fail(std::move(aggregate).error());
  RoundReport report;
  report.round = round_;
  report.aggregate = std::move(*aggregate);
  for (const auto& [client, update] : updates_.updates()) report.clients.push_back(client);
  if (config_.measure) {
    auto exactness = measure_exactness(updates_, report.aggregate, &team_);
    if (!exactness) return fail(std::move(exactness).error());
    report.exactness = std::move(*exactness);
  }
  fold(report.aggregate.packet);
  mean_ = report.aggregate.mean_factors;
  report.packet = round_hash(report.aggregate);
  chain_ = adapter::chain_hash(chain_, round_, report.packet);
  report.chain = chain_;
  ++round_;
  aggregator_ = entry_->make();
  updates_ = UpdateSet();
  store_->clear();
  return report;
}

model::Model Coordinator::finish() && {
  fold(as_packet(mean_));
  mean_.clear();
  return std::move(model_);
}

}  // namespace strata::coordinator

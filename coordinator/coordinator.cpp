#include "coordinator/coordinator.h"

#include <algorithm>
#include <utility>

#include "model/fold.h"

namespace strata::coordinator {
namespace {

std::string_view restart_of(const AggregationConfig& config, const AggregatorEntry& entry) {
  return config.restart == "auto" ? entry.restart : std::string_view(config.restart);
}

}  // namespace

Coordinator::Coordinator(const AggregationConfig& config, const AggregatorEntry& entry,
                         model::Model base, int threads)
    : config_(config),
      entry_(&entry),
      restart_(entry.averages_factors
                   ? protocol::Restart::kMean
                   : (restart_of(config, entry) == "keep" ? protocol::Restart::kKeep
                                                          : protocol::Restart::kFresh)),
      team_(threads),
      model_(std::move(base)),
      chain_(model_.state_hash(&team_)),
      chain_before_(chain_),
      aggregator_(entry.make({})) {
  if (config.diagnostics) first_ = model_;
}

void Coordinator::expect(std::span<const PlannedUpdate> clients) {
  for (const auto& client : clients) heads_[client.client] = client.heads;
  if (!entry_->fixed_shares || restart_ != protocol::Restart::kKeep) return;
  for (const auto& client : clients) planned_[client.client] = client.weight;
  aggregator_ = entry_->make(planned_);
}

Result<Coordinator> Coordinator::make(const AggregationConfig& config, model::Model base,
                                      int threads) {
  auto entry = find_aggregator(config.method);
  if (!entry) return fail(std::move(entry).error());
  if ((*entry)->averages_factors && config.restart == "keep") {
    return fail({.code = ErrorCode::kConfig,
                 .what = "is \"keep\"",
                 .where = "aggregation.restart",
                 .rule = config.method + " restarts every client from the averaged factors",
                 .remedy = "leave restart out, or use method \"flora\""});
  }
  return Coordinator(config, **entry, std::move(base), threads);
}

Result<void> Coordinator::check_clients(std::span<const PlannedUpdate> clients) const {
  if (config_.min_clients > static_cast<std::int64_t>(clients.size())) {
    return fail({.code = ErrorCode::kConfig,
                 .what = "is " + std::to_string(config_.min_clients),
                 .where = "aggregation.min_clients",
                 .rule = "there are " + std::to_string(clients.size()) + " clients"});
  }
  if (config_.clients_per_round > 0 && config_.clients_per_round < config_.min_clients) {
    return fail({.code = ErrorCode::kConfig,
                 .what = "is " + std::to_string(config_.clients_per_round),
                 .where = "aggregation.clients_per_round",
                 .rule = "a round needs the updates of " + std::to_string(config_.min_clients) +
                         " clients (min_clients)"});
  }
  if (auto able = check_restart(clients); !able) return able;
  return entry_->check == nullptr ? Result<void>{} : entry_->check(clients);
}

// A factor that is drawn anew each round outlives none.
Result<void> Coordinator::check_restart(std::span<const PlannedUpdate> clients) const {
  if (restart_ == protocol::Restart::kFresh) return {};
  const auto seeded = std::find_if(clients.begin(), clients.end(),
                                   [](const PlannedUpdate& client) { return client.seeded; });
  if (seeded == clients.end()) return {};
  const bool averages = entry_->averages_factors;
  return fail(
      {.code = ErrorCode::kConfig,
       .what = "is \"" + (averages ? config_.method : "keep") + "\"",
       .where = averages ? "aggregation.method" : "aggregation.restart",
       .rule = seeded->client + " draws A anew each round (adapter.method), " +
               (averages ? "averaged factors would keep it" : "kept factors are of the last"),
       .remedy = "use method \"flora\" with restart \"fresh\", or adapter.method \"ffa\""});
}

Result<void> Coordinator::check(const protocol::ClientId& client, std::uint32_t round,
                                const Sha256& base, const Outline& outline) const {
  const auto refuse = [&](std::string what, std::string rule) {
    return fail({.code = ErrorCode::kIncompatibleUpdate,
                 .what = std::move(what),
                 .where = "update of " + client,
                 .rule = std::move(rule)});
  };
  if (round != round_) {
    return refuse("is for round " + std::to_string(round),
                  "round " + std::to_string(round_) + " is open");
  }
  if (base != trained_on()) {
    return refuse("was trained on another model",
                  "its base must be " + hex(trained_on()).substr(0, 12));
  }
  for (const auto& [name, shape] : outline) {
    const std::size_t at = model_.find(name);
    if (at == model::kNone)
      return refuse("changes " + printable(name, 120), "the model has no such tensor");
    const auto& parameter = model_.parameters()[at];
    if (parameter.d_out() != shape.d_out || parameter.d_in() != shape.d_in) {
      return refuse(
          name + " is " + std::to_string(shape.d_out) + " x " + std::to_string(shape.d_in),
          "the model's is " + std::to_string(parameter.d_out()) + " x " +
              std::to_string(parameter.d_in()));
    }
  }
  if (updates_.updates().contains(client))
    return refuse("came twice", "one update per client and round");
  return {};
}

Result<void> Coordinator::accept(protocol::Update update) {
  if (auto fits = check(update.client, update.round, update.base, outline_of(update.delta)); !fits)
    return fits;
  if (auto good = check_update(update); !good) return good;
  auto kept = keep_in_memory(std::move(update));
  if (auto fits = check_norm(*kept); !fits) return fits;
  return accept(std::move(kept));
}

Result<void> Coordinator::accept(SharedUpdate update) {
  if (!private_) {
    if (auto taken = aggregator_->accumulate(update); !taken) return taken;
  }
  return updates_.add(std::move(update));
}

void Coordinator::make_private(std::shared_ptr<PrivateSum> sum, CommonStart start) {
  private_ = std::move(sum);
  start_ = std::move(start);
  config_.measure = false;  // single updates would show in it
}

// Averaged factors, once there are any, are what every client begins with.
Result<CommonFactors> Coordinator::common_factors() const {
  auto out = start_(round_);
  if (!out) return out;
  for (const auto& [name, pair] : mean_) {
    auto& own = out->at(name);
    own.b = pair.b;
    own.a = pair.a;  // one that is not trained stays what it was, be it given from outside
  }
  return out;
}

// Whether an update fits is told to nobody: one that does not adds nothing.
Result<Aggregate> Coordinator::noisy_mean() {
  auto common = common_factors();
  if (!common) return fail(std::move(common).error());
  std::vector<float> change(values_of(*common));
  if (auto begun = private_->begin(round_, change.size()); !begun)
    return fail(std::move(begun).error());
  for (const auto& [client, update] : updates_.updates()) {
    auto read = read_change(*common, *update, change);
    if (!read && read.error().code != ErrorCode::kIncompatibleUpdate)
      return fail(std::move(read).error(), "update of " + client);
    if (read) private_->add(client, change, team_);
  }
  if (auto released = private_->release(change, team_); !released)
    return fail(std::move(released).error());
  return apply_change(*common, change, entry_->averages_factors);
}

Result<Aggregate> Coordinator::mean() {
  const auto accepted = static_cast<std::int64_t>(aggregator_->accepted());
  if (accepted < config_.min_clients || accepted == 0) {
    return fail(
        {.code = ErrorCode::kQuorum,
         .what = "round " + std::to_string(round_) + " has " + std::to_string(accepted) +
                 " usable updates",
         .rule = "it needs " + std::to_string(std::max<std::int64_t>(1, config_.min_clients)),
         .remedy = "see the refusals above, or lower aggregation.min_clients"});
  }
  return std::move(*aggregator_).report(&team_);
}

Result<RoundReport> Coordinator::close() {
  auto combined = combine();
  return combined ? fold_combined(std::move(*combined)) : fail(std::move(combined).error());
}

Result<Coordinator::Combined> Coordinator::combine() {
  auto aggregate = private_ ? noisy_mean() : mean();
  if (!aggregate) return fail(std::move(aggregate).error());
  Combined out{.aggregate = std::move(*aggregate), .exactness = {}};
  if (config_.measure) {
    auto measured = measure_exactness(updates_, out.aggregate, &team_);
    if (!measured) return fail(std::move(measured).error());
    out.exactness = std::move(*measured);
  }
  return out;
}

Result<RoundReport> Coordinator::fold_combined(Combined combined) {
  auto descent = descent_of(combined.aggregate.packet);
  if (!descent) return fail(std::move(descent).error());
  RoundReport report = fold(std::move(combined.aggregate));
  report.exactness = std::move(combined.exactness);
  report.descent = std::move(*descent);
  if (first_) {
    auto diagnostics = diagnose(updates_, heads_, *first_, model_, &team_);
    if (!diagnostics) return fail(std::move(diagnostics).error());
    report.diagnostics = std::move(*diagnostics);
  }
  for (const auto& [client, update] : updates_.updates()) report.clients.push_back(client);
  aggregator_ = entry_->make(planned_);
  updates_ = UpdateSet();
  return report;
}

// Before the packet is folded.
Result<std::optional<MergeDescent>> Coordinator::descent_of(const adapter::Packet& packet) {
  if (!loss_ || private_) return std::optional<MergeDescent>();
  const auto adapted = adapted_tensors(model_, packet);
  if (adapted.empty()) return std::optional<MergeDescent>();
  Weights shares = updates_.normalised_weights(planned_);
  double sum = 0.0;  // below 1 where the plan fixes shares and somebody is missing
  for (const auto& [client, share] : shares) sum += share;
  for (auto& [client, share] : shares) share /= sum;
  auto loss = loss_({.model = model_, .round = round_, .tensors = adapted, .shares = shares});
  if (!loss) return fail(std::move(loss).error());
  if (!*loss) return std::optional<MergeDescent>();
  return std::optional(merge_descent(model_, packet, **loss, team_));
}

void Coordinator::change_model(const adapter::Packet& packet) {
  if (rule_) {
    rule_->fold(model_, packet, round_, &team_);
  } else {
    model::fold(model_, packet, &team_);
  }
}

void Coordinator::go_on_to(const Sha256& chain) {
  chain_before_ = std::exchange(chain_, chain);
  ++round_;
}

RoundReport Coordinator::fold(Aggregate aggregate) {
  RoundReport report;
  report.round = round_;
  report.aggregate = std::move(aggregate);
  change_model(report.aggregate.packet);
  mean_ = report.aggregate.mean_factors;
  report.packet = report.aggregate.hash();
  go_on_to(adapter::chain_hash(chain_, round_, report.packet));
  report.chain = chain_;
  return report;
}

RoundReport Coordinator::take_up(protocol::RoundChange change,
                                 std::vector<protocol::ClientId> clients) {
  RoundReport report = fold(Aggregate{std::move(change), {}});
  report.clients = std::move(clients);
  return report;
}

Result<void> Coordinator::resume(protocol::RoundChange change, const Sha256& chain) {
  const Sha256 reached = adapter::chain_hash(chain_, round_, change.hash());
  if (reached != chain) {
    return fail({.code = ErrorCode::kDamaged,
                 .what = "leads to chain hash " + hex(reached).substr(0, 12),
                 .where = "result of round " + std::to_string(round_),
                 .rule = "the journal says " + hex(chain).substr(0, 12)});
  }
  change_model(change.packet);
  mean_ = std::move(change.mean_factors);
  go_on_to(reached);
  return {};
}

void Coordinator::settle() {
  model::fold(model_, as_packet(mean_), &team_);
  mean_.clear();
}

model::Model Coordinator::finish() && {
  settle();
  return std::move(model_);
}

}  // namespace strata::coordinator

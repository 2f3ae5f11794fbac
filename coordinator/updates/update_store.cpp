#include "coordinator/updates/update_store.h"

#include <cmath>

namespace strata::coordinator {
namespace {

using adapter::TensorDelta;

class InMemory final : public KeptUpdate {
 public:
  explicit InMemory(protocol::Update update)
      : outline_(outline_of(update.delta)),
        update_(std::make_shared<const protocol::Update>(std::move(update))) {}
  const protocol::ClientId& client() const override { return update_->client; }
  double weight() const override { return update_->weight; }
  const Outline& outline() const override { return outline_; }
  Result<std::shared_ptr<const TensorDelta>> read(std::string_view tensor) const override {
    return std::shared_ptr<const TensorDelta>(update_, &update_->delta.find(tensor)->second);
  }

 private:
  Outline outline_;
  std::shared_ptr<const protocol::Update> update_;
};

class MemoryStore final : public UpdateStore {
 public:
  Result<SharedUpdate> put(protocol::Update update) override {
    return keep_in_memory(std::move(update));
  }
  void clear() override {}
};

}  // namespace

Outline outline_of(const adapter::DeltaTerms& delta) {
  Outline out;
  for (const auto& [name, change] : delta) {
    auto& own = out[name];
    own.d_out = change.d_out;
    own.d_in = change.d_in;
    for (const auto& term : change.terms) {
      const auto* pair = std::get_if<adapter::LowRank>(&term);
      own.ranks.push_back(pair == nullptr ? 0 : pair->a.rows());
    }
  }
  return out;
}

namespace {

tl::unexpected<Error> unusable(const protocol::ClientId& client, std::string what,
                               std::string rule) {
  return fail({.code = ErrorCode::kIncompatibleUpdate,
               .what = std::move(what),
               .where = "update of " + client,
               .rule = std::move(rule),
               .remedy = "the client is left out of this round"});
}

Result<void> check_weight(const protocol::ClientId& client, double weight) {
  if (weight > 0.0 && std::isfinite(weight)) return {};
  return unusable(client, "weight is " + std::to_string(weight), "weights are positive and finite");
}

Result<void> changes_nothing(const protocol::ClientId& client) {
  return unusable(client, "changes nothing", "an update holds at least one tensor");
}

}  // namespace

Result<void> check_update(const protocol::Update& update) {
  if (auto ok = check_weight(update.client, update.weight); !ok) return ok;
  if (update.delta.empty()) return changes_nothing(update.client);
  if (auto ok = adapter::validate(update.delta); !ok)
    return fail(std::move(ok).error(), "update of " + update.client);
  return {};
}

Result<void> check_update(const KeptUpdate& update) {
  if (auto ok = check_weight(update.client(), update.weight()); !ok) return ok;
  if (update.outline().empty()) return changes_nothing(update.client());
  for (const auto& [name, shape] : update.outline()) {
    auto delta = update.read(name);
    if (!delta) return fail(std::move(delta).error());
    if (auto ok = adapter::validate(name, **delta); !ok)
      return fail(std::move(ok).error(), "update of " + update.client());
  }
  return {};
}

SharedUpdate keep_in_memory(protocol::Update update) {
  return std::make_shared<const InMemory>(std::move(update));
}

std::unique_ptr<UpdateStore> make_memory_store() { return std::make_unique<MemoryStore>(); }

}  // namespace strata::coordinator

#include "coordinator/updates/kept_update.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tensor/linalg.h"

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
      own.seeded = own.seeded || (pair != nullptr && pair->seeded_a);
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

std::string ranks_text(const std::vector<std::size_t>& ranks) {
  std::string out;
  for (const std::size_t rank : ranks) {
    if (!out.empty()) out += " and ";
    out += rank == 0 ? "full rank" : "rank " + std::to_string(rank);
  }
  return out.empty() ? "no term" : out;
}

std::string shape_text(const TensorOutline& shape) {
  return std::to_string(shape.d_out) + " x " + std::to_string(shape.d_in);
}

double norm_of(const TensorDelta& delta) {
  std::vector<tensor::FactorView> pairs;
  for (const auto& term : delta.terms) {
    if (const auto* pair = std::get_if<adapter::LowRank>(&term))
      pairs.push_back({.b = pair->b.view(), .a = pair->a.view()});
  }
  if (pairs.size() == delta.terms.size()) return tensor::frobenius_norm(pairs);
  std::vector<double> whole(delta.d_out * delta.d_in);
  adapter::add_dense(delta, 1.0, whole);
  double squares = 0.0;
  for (const double value : whole) squares += value * value;
  return std::sqrt(squares);
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

Result<void> check_planned(const protocol::ClientId& client, const Outline& outline,
                           const Outline& planned) {
  for (const auto& [name, shape] : outline) {
    const auto found = planned.find(name);
    if (found == planned.end())
      return unusable(client, "changes " + printable(name, 120), "the plan does not");
    const TensorOutline& plan = found->second;
    if (shape.d_out != plan.d_out || shape.d_in != plan.d_in) {
      return unusable(client, name + " is " + shape_text(shape),
                      "the plan says " + shape_text(plan));
    }
    if (shape.ranks.empty() || shape.ranks.size() > plan.ranks.size() ||
        !std::equal(shape.ranks.begin(), shape.ranks.end(), plan.ranks.begin())) {
      return unusable(client, name + " has " + ranks_text(shape.ranks),
                      "the plan says " + ranks_text(plan.ranks));
    }
    if (shape.seeded != plan.seeded) {
      return unusable(client, name + (plan.seeded ? " comes with A" : " comes without A"),
                      plan.seeded ? "the plan says that A is drawn from the seed"
                                  : "the plan says that the client sends it");
    }
  }
  for (const auto& [name, plan] : planned) {
    if (!outline.contains(name))
      return unusable(client, "does not change " + name, "the plan says that it does");
  }
  return {};
}

Result<double> update_norm(const KeptUpdate& update) {
  double squares = 0.0;
  for (const auto& [name, shape] : update.outline()) {
    auto delta = update.read(name);
    if (!delta) return fail(std::move(delta).error());
    const double norm = norm_of(**delta);
    squares += norm * norm;
  }
  return std::sqrt(squares);
}

Result<void> check_norm(const KeptUpdate& update, double most) {
  if (most <= 0.0) return {};
  auto norm = update_norm(update);
  if (!norm) return fail(std::move(norm).error());
  if (*norm <= most) return {};
  return unusable(update.client(), fmt::format("has norm {:g}", *norm),
                  fmt::format("aggregation.max_update_norm is {:g}", most));
}

SharedUpdate keep_in_memory(protocol::Update update) {
  return std::make_shared<const InMemory>(std::move(update));
}

}  // namespace strata::coordinator

// Factor averaging: (sum_k p_k B_k)(sum_k p_k A_k). It misses sum_k p_k B_k A_k by the covariance
// of the factors across clients:
//   sum_k p_k B_k A_k - Bbar Abar = sum_k p_k (B_k - Bbar)(A_k - Abar) docs/methods/fedavg.md
#include "coordinator/aggregator/factor_mean.h"

#include <algorithm>
#include <vector>

namespace strata::coordinator {
namespace {

using adapter::Dense;
using adapter::LowRank;
using tensor::Matrix;

// What must agree between clients before their factors can be averaged.
struct Kind {
  bool dense = false;
  std::size_t rank = 0;
};

Kind kind_of(const adapter::TensorDelta& delta) {
  const auto* pair = std::get_if<LowRank>(&delta.terms.front());
  return pair == nullptr ? Kind{.dense = true} : Kind{.rank = pair->a.rows()};
}

class FactorMean final : public Aggregator {
 public:
  explicit FactorMean(bool pad) : pad_(pad) {}

  Result<void> accumulate(SharedUpdate update) override {
    for (const auto& [name, delta] : update->delta) {
      if (delta.terms.size() == 1) continue;
      return fail({.code = ErrorCode::kIncompatibleUpdate,
                   .what = "has " + std::to_string(delta.terms.size()) + " terms",
                   .where = "update of " + update->client + ": " + name,
                   .rule = "factors can be averaged one pair per client",
                   .remedy = "use aggregation.method \"flora\""});
    }
    return set_.add(std::move(update));
  }

  std::size_t accepted() const override { return set_.updates().size(); }

  Result<Aggregate> report() && override {
    if (set_.empty()) {
      return fail({.code = ErrorCode::kQuorum,
                   .what = "no client's update could be used",
                   .rule = "a round needs at least one"});
    }
    Aggregate out;
    out.weights = set_.normalised_weights();
    for (const auto& [name, shape] : set_.tensors()) {
      auto kind = common_kind(name);
      if (!kind) return fail(std::move(kind).error());
      if (kind->dense) {
        out.packet.tensors.emplace(name, stack_tensor(name, set_, out.weights));
      } else {
        out.mean_factors.emplace(name, mean_factors(name, set_, out.weights));
      }
    }
    return out;
  }

 private:
  // Averaging factors means something only for pairs of equal rank, or padded to it, from clients
  // that adapt the same layers.
  Result<Kind> common_kind(const std::string& name) const {
    const auto refuse = [&](std::string what, std::string rule, std::string remedy) {
      return fail({.code = ErrorCode::kConfig,
                   .what = std::move(what),
                   .where = "aggregation.method: " + name,
                   .rule = std::move(rule),
                   .remedy = std::move(remedy)});
    };
    const auto& [first, leader] = *set_.updates().begin();
    for (const auto& [client, update] : set_.updates()) {
      if (!update->delta.contains(name)) {
        return refuse(client + " does not adapt it, others do",
                      "averaging needs the same target layers on all clients",
                      "use \"flora\", or give all clients the same targets");
      }
    }
    const Kind kind = kind_of(leader->delta.at(name));
    for (const auto& [client, update] : set_.updates()) {
      const Kind own = kind_of(update->delta.at(name));
      if (own.dense != kind.dense) {
        return refuse("only one of " + first + " and " + client + " trains it without an adapter",
                      "averaging needs the same method on all clients", "use \"flora\"");
      }
      if (!pad_ && own.rank != kind.rank) {
        return refuse(client + " has rank " + std::to_string(own.rank) + ", " + first + " " +
                          std::to_string(kind.rank),
                      "fedavg averages factors of one rank",
                      "use \"flora\" (exact) or \"zero_pad\"");
      }
    }
    return kind;
  }

  bool pad_;
  UpdateSet set_;
};

}  // namespace

LowRank mean_factors(const std::string& name, const UpdateSet& set,
                     const std::map<std::string, double>& weights) {
  const auto [d_out, d_in] = set.tensors().at(name);
  const auto delta_of = [&](const protocol::Update& update) -> const adapter::TensorDelta* {
    const auto found = update.delta.find(name);
    return found == update.delta.end() ? nullptr : &found->second;
  };
  std::size_t rank = 0;
  for (const auto& [client, update] : set.updates()) {
    if (const auto* delta = delta_of(*update)) rank = std::max(rank, delta->rank_bound());
  }
  std::vector<double> b(d_out * rank, 0.0), a(rank * d_in, 0.0);
  for (const auto& [client, update] : set.updates()) {
    const auto* delta = delta_of(*update);
    if (delta == nullptr) continue;
    const double weight = weights.at(client);
    std::size_t first = 0;  // the client's terms stand side by side as one pair
    for (const auto& term : delta->terms) {
      const auto& pair = std::get<LowRank>(term);
      const std::size_t r = pair.a.rows();
      for (std::size_t i = 0; i < d_out; ++i) {
        for (std::size_t j = 0; j < r; ++j)
          b[i * rank + first + j] += weight * static_cast<double>(pair.b(i, j));
      }
      for (std::size_t i = 0; i < pair.a.size(); ++i)
        a[first * d_in + i] += weight * static_cast<double>(pair.a.values()[i]);
      first += r;
    }
  }
  LowRank out{.b = Matrix(d_out, rank), .a = Matrix(rank, d_in)};
  const auto narrow = [](double v) { return static_cast<float>(v); };
  std::transform(b.begin(), b.end(), out.b.data(), narrow);
  std::transform(a.begin(), a.end(), out.a.data(), narrow);
  return out;
}

std::unique_ptr<Aggregator> make_fedavg() { return std::make_unique<FactorMean>(false); }
std::unique_ptr<Aggregator> make_zero_pad() { return std::make_unique<FactorMean>(true); }

}  // namespace strata::coordinator

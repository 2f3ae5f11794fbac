// Factor averaging: (sum_k p_k B_k)(sum_k p_k A_k). It misses sum_k p_k B_k A_k by the covariance of the factors across clients:
//   sum_k p_k B_k A_k - Bbar Abar = sum_k p_k (B_k - Bbar)(A_k - Abar)                         docs/methods/fedavg.md
#include "coordinator/aggregator/factor_mean.h"

#include <algorithm>
#include <vector>

namespace strata::coordinator {
namespace {

using adapter::Dense;
using adapter::LowRank;
using tensor::Matrix;

class FactorMean final : public Aggregator {
 public:
  explicit FactorMean(bool pad) : pad_(pad) {}

  Result<void> accumulate(const protocol::Update& update) override {
    for (const auto& [name, delta] : update.delta) {
      if (auto ok = check_terms(update.client, name, delta); !ok) return ok;
    }
    auto added = set_.add(update);
    if (!added) return added;
    for (const auto& [name, delta] : update.delta) ranks_.try_emplace(name, delta.rank_bound());
    return {};
  }

  std::size_t accepted() const override { return set_.updates().size(); }

  Result<Aggregate> report() && override {
    if (set_.updates().empty()) {
      return fail({.code = ErrorCode::kQuorum, .what = "no client's update could be used", .rule = "a round needs at least one"});
    }
    Aggregate out;
    out.weights = set_.normalised_weights();
    for (const auto& [name, shape] : set_.tensors()) {
      const auto& terms = set_.updates().begin()->second.delta.at(name).terms;
      if (std::holds_alternative<Dense>(terms.front())) {
        out.packet.tensors.emplace(name, stack_tensor(name, set_, out.weights));
      } else {
        out.mean_factors.emplace(name, mean_factors(name, set_, out.weights));
      }
    }
    return out;
  }

 private:
  // Averaging factors means something only for one pair each, of equal rank or padded to it, from clients that adapt the same layers.
  Result<void> check_terms(const std::string& client, const std::string& name, const adapter::TensorDelta& delta) const {
    const auto refuse = [&](std::string what, std::string rule, std::string remedy) {
      return fail({.code = ErrorCode::kIncompatibleUpdate, .what = std::move(what), .where = "update of " + client + ": " + name,
                   .rule = std::move(rule), .remedy = std::move(remedy)});
    };
    if (delta.terms.size() != 1) {
      return refuse("has " + std::to_string(delta.terms.size()) + " terms", "factors can be averaged one pair per client",
                    "use aggregation.method \"flora\"");
    }
    if (accepted() > 0 && !set_.tensors().contains(name)) {
      return refuse("is not adapted by the other clients", "averaging needs the same target layers on all clients",
                    "use aggregation.method \"flora\"");
    }
    const auto known = ranks_.find(name);
    if (!pad_ && known != ranks_.end() && known->second != delta.rank_bound()) {
      return refuse("rank " + std::to_string(delta.rank_bound()) + " differs from the other clients' " +
                        std::to_string(known->second),
                    "fedavg averages factors of one rank", "use aggregation.method \"flora\" or \"zero_pad\"");
    }
    return {};
  }

  bool pad_;
  UpdateSet set_;
  std::map<std::string, std::size_t> ranks_;
};

}  // namespace

LowRank mean_factors(const std::string& name, const UpdateSet& set, const std::map<std::string, double>& weights) {
  const auto [d_out, d_in] = set.tensors().at(name);
  const auto delta_of = [&](const protocol::Update& update) -> const adapter::TensorDelta* {
    const auto found = update.delta.find(name);
    return found == update.delta.end() ? nullptr : &found->second;
  };
  std::size_t rank = 0;
  for (const auto& [client, update] : set.updates()) {
    if (const auto* delta = delta_of(update)) rank = std::max(rank, delta->rank_bound());
  }
  std::vector<double> b(d_out * rank, 0.0), a(rank * d_in, 0.0);
  for (const auto& [client, update] : set.updates()) {
    const auto* delta = delta_of(update);
    if (delta == nullptr) continue;
    const double weight = weights.at(client);
    std::size_t first = 0;  // the client's terms stand side by side as one pair
    for (const auto& term : delta->terms) {
      const auto& pair = std::get<LowRank>(term);
      const std::size_t r = pair.a.rows();
      for (std::size_t i = 0; i < d_out; ++i) {
        for (std::size_t j = 0; j < r; ++j) b[i * rank + first + j] += weight * static_cast<double>(pair.b(i, j));
      }
      for (std::size_t i = 0; i < pair.a.size(); ++i) a[first * d_in + i] += weight * static_cast<double>(pair.a.values()[i]);
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

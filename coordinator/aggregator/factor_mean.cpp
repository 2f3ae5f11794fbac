// Factor averaging: (sum_k p_k B_k)(sum_k p_k A_k). It misses sum_k p_k B_k A_k by the covariance
// of the factors across clients:
//   sum_k p_k B_k A_k - Bbar Abar = sum_k p_k (B_k - Bbar)(A_k - Abar) docs/methods/fedavg.md
#include "coordinator/aggregator/factor_mean.h"

#include <algorithm>
#include <vector>

#include "coordinator/aggregator/for_each_tensor.h"

namespace strata::coordinator {
namespace {

using adapter::LowRank;
using tensor::Matrix;

Error cannot_average(std::string what, const std::string& tensor, std::string rule,
                     std::string remedy) {
  return {.code = ErrorCode::kConfig,
          .what = std::move(what),
          .where = "aggregation.method: " + tensor,
          .rule = std::move(rule),
          .remedy = std::move(remedy)};
}

// "anna has rank 8, berta 4, cara 4", as far as a line goes.
std::string ranks_text(std::span<const PlannedUpdate> clients, const std::string& tensor) {
  constexpr std::size_t kShown = 12;
  std::string out;
  for (std::size_t i = 0; i < std::min(kShown, clients.size()); ++i) {
    out += (i == 0 ? "" : ", ") + clients[i].client + (i == 0 ? " has rank " : " ") +
           std::to_string(clients[i].ranks.at(tensor));
  }
  if (clients.size() > kShown)
    out += " and " + std::to_string(clients.size() - kShown) + " more clients";
  return out;
}

// Averaging factors means something only for pairs of equal rank, or padded to it, from clients
// that adapt the same layers by the same method. Clients in name order.
Result<void> check_average(std::span<const PlannedUpdate> clients, bool pad) {
  for (const auto& client : clients) {
    if (client.heads == 1) continue;
    return fail({.code = ErrorCode::kConfig,
                 .what = client.client + " has " + std::to_string(client.heads) + " heads",
                 .where = "adapter.heads",
                 .rule = "factors can be averaged one pair per client",
                 .remedy = "use aggregation.method \"lte\" or \"flora\""});
  }
  std::map<std::string, std::size_t> first_rank;  // by tensor, of the first client that adapts it
  for (const auto& client : clients) first_rank.insert(client.ranks.begin(), client.ranks.end());
  for (const auto& [tensor, rank] : first_rank) {
    bool unequal = false;
    for (const auto& client : clients) {
      const auto own = client.ranks.find(tensor);
      if (own == client.ranks.end()) {
        return fail(cannot_average(client.client + " does not adapt it, others do", tensor,
                                   "averaging needs the same target layers on all clients",
                                   "use \"flora\", or give all clients the same targets"));
      }
      if ((own->second == 0) != (rank == 0)) {
        return fail(cannot_average("only one of " + clients.front().client + " and " +
                                       client.client + " trains it without an adapter",
                                   tensor, "averaging needs the same method on all clients",
                                   "use \"flora\""));
      }
      unequal = unequal || own->second != rank;
    }
    if (unequal && !pad) {
      return fail(cannot_average(ranks_text(clients, tensor), tensor,
                                 "fedavg averages factors of one rank",
                                 "use \"flora\" (exact) or \"zero_pad\""));
    }
  }
  return {};
}

std::vector<PlannedUpdate> ranks_of(const UpdateSet& set) {
  std::vector<PlannedUpdate> out;
  for (const auto& [client, update] : set.updates()) {
    out.push_back({.client = client, .ranks = {}});
    for (const auto& [name, own] : update->outline())
      out.back().ranks.emplace(name, own.ranks.front());
  }
  return out;
}

class FactorMean final : public Aggregator {
 public:
  explicit FactorMean(bool pad) : pad_(pad) {}

  Result<void> accumulate(SharedUpdate update) override {
    for (const auto& [name, own] : update->outline()) {
      if (own.ranks.size() == 1) continue;
      return fail({.code = ErrorCode::kIncompatibleUpdate,
                   .what = "has " + std::to_string(own.ranks.size()) + " terms",
                   .where = "update of " + update->client() + ": " + name,
                   .rule = "factors can be averaged one pair per client",
                   .remedy = "use aggregation.method \"flora\""});
    }
    return set_.add(std::move(update));
  }

  std::size_t accepted() const override { return set_.updates().size(); }

  Result<Aggregate> report(tensor::Team* team) && override {
    if (set_.empty()) {
      return fail({.code = ErrorCode::kQuorum,
                   .what = "no client's update could be used",
                   .rule = "a round needs at least one"});
    }
    const auto ranks = ranks_of(set_);
    if (auto fits = check_average(ranks, pad_); !fits) return fail(std::move(fits).error());
    Aggregate out;
    out.weights = set_.normalised_weights();
    using Mean = std::variant<LowRank, adapter::PacketTensor>;
    auto means = for_each_tensor(set_, team, [&](const TensorChanges& changes) -> Mean {
      if (std::holds_alternative<LowRank>(changes.clients.front().delta->terms.front()))
        return mean_factors(changes, out.weights);
      return stack_tensor(changes, out.weights);
    });
    if (!means) return fail(std::move(means).error());
    for (auto& [name, mean] : *means) {
      if (auto* pair = std::get_if<LowRank>(&mean)) {
        out.mean_factors.emplace(name, std::move(*pair));
      } else {
        out.packet.tensors.emplace(name, std::move(std::get<adapter::PacketTensor>(mean)));
      }
    }
    return out;
  }

 private:
  bool pad_;
  UpdateSet set_;
};

}  // namespace

LowRank mean_factors(const TensorChanges& changes, const std::map<std::string, double>& weights) {
  const std::size_t d_out = changes.d_out, d_in = changes.d_in;
  std::size_t rank = 0;
  for (const auto& own : changes.clients) rank = std::max(rank, own.delta->rank_bound());
  std::vector<double> b(d_out * rank, 0.0), a(rank * d_in, 0.0);
  for (const auto& [client, delta] : changes.clients) {
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

std::unique_ptr<Aggregator> make_fedavg(const Weights& /*planned*/) {
  return std::make_unique<FactorMean>(false);
}
std::unique_ptr<Aggregator> make_zero_pad(const Weights& /*planned*/) {
  return std::make_unique<FactorMean>(true);
}

Result<void> check_fedavg(std::span<const PlannedUpdate> clients) {
  return check_average(clients, false);
}
Result<void> check_zero_pad(std::span<const PlannedUpdate> clients) {
  return check_average(clients, true);
}

}  // namespace strata::coordinator

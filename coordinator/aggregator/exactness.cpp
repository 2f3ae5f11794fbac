#include "coordinator/aggregator/exactness.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "coordinator/aggregator/factor_mean.h"
#include "coordinator/aggregator/for_each_tensor.h"
#include "tensor/linalg.h"

namespace strata::coordinator {
namespace {

using adapter::Dense;
using adapter::LowRank;
using tensor::FactorView;

constexpr std::size_t kRowBlock = 256;

FactorView view(const LowRank& pair, double weight) {
  return {pair.b.view(), pair.a.view(), weight};
}

// The clients' own changes of one tensor, weighted, as they came.
struct Parts {
  std::vector<FactorView> pairs;
  std::vector<std::pair<const Dense*, double>> dense;
};

Parts parts_of(const TensorChanges& changes, const std::map<std::string, double>& weights) {
  Parts out;
  for (const auto& [client, delta] : changes.clients) {
    const double weight = weights.at(client);
    for (const auto& term : delta->terms) {
      if (const auto* pair = std::get_if<LowRank>(&term)) {
        out.pairs.push_back(view(*pair, weight));
      } else {
        out.dense.emplace_back(&std::get<Dense>(term), weight);
      }
    }
  }
  return out;
}

// out = rows [first, first + count) of the weighted mean.
void mean_rows(std::span<double> out, const Parts& parts, std::size_t first, std::size_t count,
               std::size_t d_in) {
  std::fill(out.begin(), out.end(), 0.0);
  for (const auto& pair : parts.pairs) tensor::add_product_rows(out, pair, first, count);
  for (const auto& [change, weight] : parts.dense) {
    const auto values = change->values.values().subspan(first * d_in, out.size());
    for (std::size_t i = 0; i < out.size(); ++i) out[i] += weight * static_cast<double>(values[i]);
  }
}

// out = the same rows of what was merged.
void merged_rows(std::span<double> out, const std::string& name, const Aggregate& merged,
                 std::size_t first, std::size_t count) {
  const auto packet = merged.packet.tensors.find(name);
  if (packet != merged.packet.tensors.end())
    return adapter::packet_rows(packet->second, first, count, out);
  std::fill(out.begin(), out.end(), 0.0);
  const auto factors = merged.mean_factors.find(name);
  if (factors != merged.mean_factors.end())
    tensor::add_product_rows(out, view(factors->second, 1.0), first, count);
}

struct TensorSums {
  double error2 = 0.0;    // ||merged - mean||^2
  double average2 = 0.0;  // ||averaged factors - mean||^2
  double mean2 = 0.0;
};

TensorSums measure_tensor(const TensorChanges& changes, const Aggregate& merged, bool averages) {
  TensorSums sums;
  const std::size_t d_out = changes.d_out, d_in = changes.d_in;
  const bool apart = changes.all_dense() && !merged.dense_weights.empty();
  const Parts parts = parts_of(changes, apart ? merged.dense_weights : merged.weights);
  std::vector<double> mean(std::min(kRowBlock, d_out) * d_in), other(mean.size());
  for (std::size_t first = 0; first < d_out; first += kRowBlock) {
    const std::size_t count = std::min(kRowBlock, d_out - first);
    const std::span mean_block = std::span(mean).first(count * d_in);
    const std::span other_block = std::span(other).first(count * d_in);
    mean_rows(mean_block, parts, first, count, d_in);
    merged_rows(other_block, changes.name, merged, first, count);
    for (std::size_t i = 0; i < mean_block.size(); ++i) {
      const double difference = other_block[i] - mean_block[i];
      sums.mean2 += mean_block[i] * mean_block[i];
      sums.error2 += difference * difference;
    }
  }
  if (averages) {
    // ||X - M||^2 = <X, X> - 2 <X, M> + ||M||^2 by traces: this loss is far above the 1e-8 that
    // squares of doubles resolve.
    const LowRank average = mean_factors(changes, merged.weights);
    const FactorView x = view(average, 1.0);
    double cross = 0.0;
    for (const auto& pair : parts.pairs) cross += tensor::inner_product(x, pair);
    sums.average2 = std::max(0.0, tensor::inner_product(x, x) - 2.0 * cross + sums.mean2);
  }
  return sums;
}

// Averaging factors is defined when all updates are low-rank.
bool can_average(const UpdateSet& set) {
  for (const auto& [client, update] : set.updates()) {
    for (const auto& [name, own] : update->outline()) {
      if (std::find(own.ranks.begin(), own.ranks.end(), 0) != own.ranks.end()) return false;
    }
  }
  return true;
}

double ratio(double part2, double whole2) {
  return whole2 > 0.0 ? std::sqrt(part2 / whole2) : (part2 > 0.0 ? INFINITY : 0.0);
}

}  // namespace

Result<Exactness> measure_exactness(const UpdateSet& set, const Aggregate& merged,
                                    tensor::Team* team) {
  const bool averages = can_average(set);
  const auto sums = for_each_tensor(set, team, [&](const TensorChanges& changes) {
    return measure_tensor(changes, merged, averages);
  });
  if (!sums) return fail(sums.error());
  Exactness out;
  TensorSums total;
  for (const auto& [name, own] : *sums) {
    total.error2 += own.error2;
    total.average2 += own.average2;
    total.mean2 += own.mean2;
    const double error = ratio(own.error2, own.mean2);
    if (error >= out.worst_tensor_error) {
      out.worst_tensor_error = error;
      out.worst_tensor = name;
    }
  }
  out.relative_error = ratio(total.error2, total.mean2);
  out.factor_averaging_error =
      averages ? ratio(total.average2, total.mean2) : std::numeric_limits<double>::quiet_NaN();
  out.update_norm = std::sqrt(total.mean2);
  return out;
}

}  // namespace strata::coordinator

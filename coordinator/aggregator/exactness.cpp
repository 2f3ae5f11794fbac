#include "coordinator/aggregator/exactness.h"

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "coordinator/aggregator/factor_mean.h"
#include "tensor/parallel.h"

namespace strata::coordinator {
namespace {

using adapter::Dense;
using adapter::LowRank;
using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using FloatMap = Eigen::Map<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;

constexpr std::size_t kRowBlock = 256;

FloatMap map(const tensor::Matrix& m) {
  return {m.data(), static_cast<Eigen::Index>(m.rows()), static_cast<Eigen::Index>(m.cols())};
}

// rows [first, first + count) of weight * term, added to out.
void add_rows(RowMajor& out, const adapter::Term& term, double weight, Eigen::Index first, Eigen::Index count) {
  if (const auto* pair = std::get_if<LowRank>(&term)) {
    out.noalias() += (map(pair->b).middleRows(first, count).cast<double>() * weight).eval() * map(pair->a).cast<double>().eval();
  } else {
    out += map(std::get<Dense>(term).values).middleRows(first, count).cast<double>() * weight;
  }
}

struct TensorSums {
  double error2 = 0.0;      // ||merged - mean||^2
  double average2 = 0.0;    // ||averaged factors - mean||^2
  double mean2 = 0.0;
};

TensorSums measure_tensor(const std::string& name, std::size_t d_out, std::size_t d_in, const UpdateSet& set,
                          const Aggregate& merged, bool averages) {
  TensorSums sums;
  const auto packet = merged.packet.tensors.find(name);
  const auto factors = merged.mean_factors.find(name);
  const LowRank average = averages ? mean_factors(name, set, merged.weights) : LowRank{};
  for (std::size_t first = 0; first < d_out; first += kRowBlock) {
    const std::size_t count = std::min(kRowBlock, d_out - first);
    const auto from = static_cast<Eigen::Index>(first);
    const auto rows = static_cast<Eigen::Index>(count);
    RowMajor mean = RowMajor::Zero(rows, static_cast<Eigen::Index>(d_in));
    for (const auto& [client, update] : set.updates()) {
      const auto delta = update.delta.find(name);
      if (delta == update.delta.end()) continue;
      for (const auto& term : delta->second.terms) add_rows(mean, term, merged.weights.at(client), from, rows);
    }
    sums.mean2 += mean.squaredNorm();
    RowMajor other = RowMajor::Zero(rows, mean.cols());
    if (packet != merged.packet.tensors.end()) {
      adapter::packet_rows(packet->second, first, count, std::span(other.data(), count * d_in));
    } else if (factors != merged.mean_factors.end()) {
      add_rows(other, factors->second, 1.0, from, rows);
    }
    sums.error2 += (other - mean).squaredNorm();
    if (averages) {
      add_rows(mean, average, -1.0, from, rows);
      sums.average2 += mean.squaredNorm();
    }
  }
  return sums;
}

// Averaging factors is defined when all updates are low-rank.
bool can_average(const UpdateSet& set) {
  for (const auto& [client, update] : set.updates()) {
    for (const auto& [name, delta] : update.delta) {
      for (const auto& term : delta.terms) {
        if (!std::holds_alternative<LowRank>(term)) return false;
      }
    }
  }
  return true;
}

double ratio(double part2, double whole2) { return whole2 > 0.0 ? std::sqrt(part2 / whole2) : (part2 > 0.0 ? INFINITY : 0.0); }

}  // namespace

Exactness measure_exactness(const UpdateSet& set, const Aggregate& merged) {
  const auto shapes = set.tensors();
  const bool averages = can_average(set);
  const std::vector<std::pair<std::string, std::pair<std::size_t, std::size_t>>> tensors(shapes.begin(), shapes.end());
  std::vector<TensorSums> sums(tensors.size());
  tensor::parallel_tasks(tensors.size(), [&](std::size_t i) {
    const auto& [name, shape] = tensors[i];
    sums[i] = measure_tensor(name, shape.first, shape.second, set, merged, averages);
  });
  Exactness out;
  TensorSums total;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    total.error2 += sums[i].error2;
    total.average2 += sums[i].average2;
    total.mean2 += sums[i].mean2;
    const double own = ratio(sums[i].error2, sums[i].mean2);
    if (own >= out.worst_tensor_error) {
      out.worst_tensor_error = own;
      out.worst_tensor = tensors[i].first;
    }
  }
  out.relative_error = ratio(total.error2, total.mean2);
  out.factor_averaging_error = averages ? ratio(total.average2, total.mean2) : std::numeric_limits<double>::quiet_NaN();
  out.update_norm = std::sqrt(total.mean2);
  return out;
}

}  // namespace strata::coordinator

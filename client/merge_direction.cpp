#include "client/merge_direction.h"

#include <cmath>
#include <limits>

#include "tensor/linalg.h"

namespace strata::client {
namespace {

using adapter::LowRank;

// <G, B A> = sum_ij G_ij sum_k B_ik A_kj, row by row.
double product_with(const model::Parameter& parameter, std::span<const float> gradient,
                    const LowRank& pair) {
  double sum = 0.0;
  std::vector<double> row(pair.a.cols());
  for (std::size_t i = 0; i < pair.b.rows(); ++i) {
    std::fill(row.begin(), row.end(), 0.0);
    for (std::size_t k = 0; k < pair.a.rows(); ++k) {
      const double factor = double{pair.b(i, k)};
      for (std::size_t j = 0; j < row.size(); ++j) row[j] += factor * double{pair.a(k, j)};
    }
    for (std::size_t j = 0; j < row.size(); ++j) {
      const std::size_t at =
          parameter.transposed() ? j * parameter.cols() + i : i * parameter.cols() + j;
      sum += row[j] * double{gradient[at]};
    }
  }
  return sum;
}

}  // namespace

double descent_cosine(const model::Model& base, const model::FullGradients& gradients,
                      const adapter::DeltaTerms& change) {
  double cross = 0.0, gradient2 = 0.0, change2 = 0.0;
  for (const auto& [name, delta] : change) {
    const std::size_t at = base.find(name);
    std::vector<tensor::FactorView> pairs;
    for (const auto& term : delta.terms) {
      const auto* pair = std::get_if<LowRank>(&term);
      if (pair == nullptr) continue;
      cross += product_with(base.parameters()[at], gradients.values[at], *pair);
      pairs.push_back({pair->b.view(), pair->a.view(), 1.0});
    }
    if (pairs.empty()) continue;
    for (const float g : gradients.values[at]) gradient2 += double{g} * double{g};
    for (const auto& x : pairs) {
      for (const auto& y : pairs) change2 += tensor::inner_product(x, y);
    }
  }
  if (!(gradient2 > 0.0) || !(change2 > 0.0)) return std::numeric_limits<double>::quiet_NaN();
  return -cross / std::sqrt(gradient2 * change2);
}

}  // namespace strata::client

#include "coordinator/diagnostics.h"

#include <algorithm>
#include <cmath>

#include "coordinator/aggregator/for_each_tensor.h"
#include "tensor/linalg.h"

namespace strata::coordinator {
namespace {

using adapter::LowRank;
using tensor::Doubles;

constexpr std::size_t kHeadsMax = 64;  // pairs grow with the square

// Orthonormal columns that span those [first, first + count) of m, or those rows transposed; empty
// when they are all zero.
Doubles basis(const tensor::Matrix& m, std::size_t first, std::size_t count, bool rows) {
  Doubles part(rows ? m.cols() : m.rows(), count);
  double largest = 0.0;
  for (std::size_t i = 0; i < part.rows; ++i) {
    for (std::size_t j = 0; j < count; ++j) {
      part(i, j) = double{rows ? m(first + j, i) : m(i, first + j)};
      largest = std::max(largest, std::abs(part(i, j)));
    }
  }
  return largest > 0.0 ? tensor::thin_qr(part).q : Doubles();
}

// ||X^T Y||_F^2 / columns
double overlap(const Doubles& x, const Doubles& y) {
  double sum = 0.0;
  for (std::size_t i = 0; i < x.cols; ++i) {
    for (std::size_t j = 0; j < y.cols; ++j) {
      double product = 0.0;
      for (std::size_t k = 0; k < x.rows; ++k) product += x(k, i) * y(k, j);
      sum += product * product;
    }
  }
  return sum / static_cast<double>(std::min(x.cols, y.cols));
}

double mean_overlap(const std::vector<Doubles>& spaces) {
  double sum = 0.0;
  std::size_t pairs = 0;
  for (std::size_t i = 0; i < spaces.size(); ++i) {
    for (std::size_t j = i + 1; j < spaces.size(); ++j, ++pairs)
      sum += overlap(spaces[i], spaces[j]);
  }
  return pairs == 0 ? std::numeric_limits<double>::quiet_NaN() : sum / static_cast<double>(pairs);
}

void align(TensorDiagnostics& out, const TensorChanges& changes,
           const std::map<std::string, std::size_t>& heads) {
  std::vector<Doubles> of_b, of_a;
  for (const auto& [client, delta] : changes.clients) {
    const auto* pair = std::get_if<LowRank>(&delta->terms.front());
    if (pair == nullptr) continue;
    const auto found = heads.find(client);
    const std::size_t count = found == heads.end() ? 1 : found->second;
    const std::size_t rank = pair->a.rows() / count;
    for (std::size_t h = 0; h < count && of_b.size() < kHeadsMax; ++h) {
      Doubles b = basis(pair->b, h * rank, rank, false);
      if (b.rows == 0) continue;
      of_b.push_back(std::move(b));
      of_a.push_back(basis(pair->a, h * rank, rank, true));
    }
  }
  out.alignment_b = mean_overlap(of_b);
  out.alignment_a = mean_overlap(of_a);
}

Doubles change(const model::Parameter& first, const model::Parameter& now) {
  std::vector<float> before(first.size()), after(now.size());
  first.copy_values(before);
  now.copy_values(after);
  Doubles out(now.rows(), now.cols());
  for (std::size_t i = 0; i < after.size(); ++i)
    out.values[i] = double{after[i]} - double{before[i]};
  return out;
}

void measure_rank(TensorDiagnostics& out, const Doubles& whole) {
  const auto values = tensor::singular_values(whole);
  double sum = 0.0, squares = 0.0;
  for (const double s : values) {
    sum += s;
    squares += s * s;
  }
  out.change_norm = std::sqrt(squares);
  if (!(sum > 0.0)) return;
  double entropy = 0.0;
  for (const double s : values) {
    if (s > 0.0) entropy -= s / sum * std::log(s / sum);
  }
  out.effective_rank = std::exp(entropy);
  out.stable_rank = squares / (values.front() * values.front());
}

}  // namespace

Result<std::vector<TensorDiagnostics>> diagnose(const UpdateSet& updates,
                                                const std::map<std::string, std::size_t>& heads,
                                                const model::Model& first, const model::Model& now,
                                                tensor::Team* team) {
  auto all = for_each_tensor(updates, team, [&](const TensorChanges& changes) {
    TensorDiagnostics out{.tensor = changes.name};
    if (!std::holds_alternative<LowRank>(changes.clients.front().delta->terms.front())) return out;
    align(out, changes, heads);
    const std::size_t at = now.find(changes.name);
    measure_rank(out, change(first.parameters()[at], now.parameters()[at]));
    return out;
  });
  if (!all) return fail(std::move(all).error());
  std::vector<TensorDiagnostics> out;
  for (auto& [name, own] : *all) {
    if (own.change_norm > 0.0 || std::isfinite(own.alignment_b)) out.push_back(std::move(own));
  }
  return out;
}

}  // namespace strata::coordinator

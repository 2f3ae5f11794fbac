#include "privacy/accountant/selection.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace strata::privacy {
namespace {

// E[K] for a gamma (Papernot and Steinke 2022, definition 1).
double mean_of(double gamma, double shape) {
  if (shape == 0.0) return (1.0 / gamma - 1.0) / -std::log(gamma);
  return shape * (1.0 - gamma) / (gamma * -std::expm1(shape * std::log(gamma)));
}

// The mean falls from infinity to 1 as gamma goes from 0 to 1. In ln gamma, by bisection; the end
// with the smaller gamma, which gives more runs and the larger bound.
double log_gamma_for(double mean, double shape) {
  double low = -700.0;
  double high = 0.0;
  for (int i = 0; i < 200; ++i) {
    const double middle = 0.5 * (low + high);
    (mean_of(std::exp(middle), shape) >= mean ? low : high) = middle;
  }
  return low;
}

}  // namespace

Result<RdpCurve> repeat_and_select(const RdpCurve& one_run, double mean_runs, double shape) {
  if (!(mean_runs > 1.0 && mean_runs < 1e100)) {
    return fail({.code = ErrorCode::kConfig,
                 .what = fmt::format("the mean number of runs is {}", mean_runs),
                 .rule = "it is above 1",
                 .remedy = "a single run needs no selection"});
  }
  if (!(shape > -1.0 && shape < 1e6)) {
    return fail({.code = ErrorCode::kConfig,
                 .what = fmt::format("the shape is {}", shape),
                 .rule = "it is above -1",
                 .remedy = "1 draws a geometric number of runs, 0 a logarithmic one"});
  }
  const double log_gamma = log_gamma_for(mean_runs, shape);
  double least = std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < one_run.orders.size(); ++i) {
    const double b = one_run.orders[i];
    least = std::min(least, (1.0 - 1.0 / b) * one_run.rho[i] - log_gamma / b);
  }
  RdpCurve out = one_run;
  for (std::size_t i = 0; i < out.orders.size(); ++i)
    out.rho[i] += (1.0 + shape) * least + std::log(mean_runs) / (out.orders[i] - 1.0);
  return out;
}

}  // namespace strata::privacy

#include "privacy/accountant/rdp.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>

namespace strata::privacy {
namespace {

constexpr std::size_t kWholeUpTo = 256;
constexpr std::array kLarge{320.0, 384.0, 448.0, 512.0, 640.0, 768.0, 1024.0};
// Below order 6 the best order is often no whole number; above, whole ones cost under 1.3 %.
constexpr std::array kFractions{1.1, 1.25, 1.5, 1.75, 2.25, 2.5, 2.75, 3.25, 3.5, 3.75, 4.5, 5.5};

constexpr std::size_t kWhole = kWholeUpTo - 1 + kLarge.size();

constexpr auto kIntegerOrders = [] {
  std::array<double, kWhole> out{};
  std::size_t n = 0;
  for (std::size_t a = 2; a <= kWholeUpTo; ++a) out[n++] = static_cast<double>(a);
  for (const double a : kLarge) out[n++] = a;
  return out;
}();

constexpr auto kAllOrders = [] {
  std::array<double, kWhole + kFractions.size()> out{};
  std::merge(kIntegerOrders.begin(), kIntegerOrders.end(), kFractions.begin(), kFractions.end(),
             out.begin());
  return out;
}();

constexpr double kSmallestOrder = 1.01;  // the conversion's logarithms lose their digits below

double epsilon_at(double order, double rho, double delta) {
  return rho + std::log1p(-1.0 / order) - std::log(delta * order) / (order - 1.0);
}

double log_delta_at(double order, double rho, double epsilon) {
  return (order - 1.0) * (rho - epsilon + std::log1p(-1.0 / order)) - std::log(order);
}

// The order with the smallest value; the edge is only worth a word where a neighbour was tried.
template <class Value>
RdpBound best_of(const RdpCurve& curve, const Value& value, double& least) {
  RdpBound out;
  least = std::numeric_limits<double>::infinity();
  std::size_t best = 0;
  for (std::size_t i = 0; i < curve.orders.size(); ++i) {
    if (!(curve.orders[i] > kSmallestOrder)) continue;
    const double here = value(curve.orders[i], curve.rho[i]);
    if (!(here < least)) continue;
    least = here;
    best = i;
  }
  out.order = curve.orders.empty() ? 0.0 : curve.orders[best];
  out.at_edge = best == 0 || best + 1 == curve.orders.size();
  return out;
}

// sqrt(1 - e^-rho) bounds the total variation, for a divergence of any order above 1.
double least_total_variation(const RdpCurve& curve) {
  if (curve.rho.empty()) return 1.0;
  const double rho = *std::min_element(curve.rho.begin(), curve.rho.end());
  return std::sqrt(-std::expm1(-rho));
}

}  // namespace

std::span<const double> default_orders() { return kAllOrders; }
std::span<const double> integer_orders() { return kIntegerOrders; }

Result<RdpCurve> rdp_curve(const Composition& composition, std::span<const double> orders) {
  if (composition.swapped && !composition.sampled.empty()) {
    return fail({.code = ErrorCode::kUnsupported,
                 .what = "replace_one with Poisson sampling has no Renyi bound here",
                 .rule = "the rdp accountant swaps records on full batches only",
                 .remedy = "use the pld accountant"});
  }
  RdpCurve out{.orders = {orders.begin(), orders.end()},
               .rho = std::vector<double>(orders.size(), 0.0)};
  for (std::size_t i = 0; i < orders.size(); ++i) {
    const double order = orders[i];
    double rho = 0.5 * order * composition.mu * composition.mu;
    for (const Phase& phase : composition.sampled)
      rho += phase.releases * sampled_gaussian_rdp(phase.rate, phase.noise, order);
    for (const Phase& phase : composition.laplace)
      rho += phase.releases * laplace_rdp(phase.noise, order);
    out.rho[i] = composition.unbounded ? std::numeric_limits<double>::infinity() : rho;
  }
  return out;
}

RdpBound rdp_epsilon(const RdpCurve& curve, Delta delta) {
  double least = 0.0;
  RdpBound out = best_of(
      curve, [&](double order, double rho) { return epsilon_at(order, rho, delta.value); }, least);
  out.delta = delta;
  out.epsilon = {std::max(least, 0.0)};
  if (delta.value > least_total_variation(curve) || least <= 0.0) out.epsilon = {0.0};
  // At 0 nothing better could be found at another order.
  if (out.epsilon.value == 0.0) out.at_edge = false;
  return out;
}

RdpBound rdp_delta(const RdpCurve& curve, Epsilon epsilon) {
  double least = 0.0;
  RdpBound out = best_of(
      curve, [&](double order, double rho) { return log_delta_at(order, rho, epsilon.value); },
      least);
  out.epsilon = epsilon;
  out.delta = {std::min({1.0, std::exp(least), least_total_variation(curve)})};
  return out;
}

RdpBound zcdp_epsilon(double rho, Delta delta) {
  // One valley in ln(a - 1): by golden section.
  const auto value = [&](double t) {
    const double order = 1.0 + std::exp(t);
    return epsilon_at(order, rho * order, delta.value);
  };
  double low = std::log(kSmallestOrder - 1.0);
  double high = std::log(1e9);
  const double part = std::numbers::phi - 1.0;
  for (int i = 0; i < 120; ++i) {
    const double left = high - part * (high - low);
    const double right = low + part * (high - low);
    (value(left) < value(right) ? high : low) = value(left) < value(right) ? right : left;
  }
  const double best = 0.5 * (low + high);
  return {.epsilon = {std::max(0.0, value(best))},
          .delta = delta,
          .order = 1.0 + std::exp(best),
          .at_edge = false};
}

}  // namespace strata::privacy

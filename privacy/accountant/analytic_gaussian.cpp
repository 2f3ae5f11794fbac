#include "privacy/accountant/analytic_gaussian.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace strata::privacy {
namespace {

// e^{x^2} erfc(x). Beyond 5 by the continued fraction of Laplace, which needs no more terms there.
double scaled_erfc(double x) {
  if (x < 5.0) return std::exp(x * x) * std::erfc(x);
  double fraction = x;
  for (int k = 60; k >= 1; --k) fraction = x + 0.5 * k / fraction;
  return 1.0 / (fraction * std::sqrt(std::numbers::pi));
}

}  // namespace

double normal_tail(double x) { return 0.5 * std::erfc(x / std::numbers::sqrt2); }

Delta gaussian_delta(double mu, Epsilon epsilon) {
  if (std::isinf(epsilon.value)) return {0.0};
  if (std::isinf(mu)) return {1.0};
  // With a and b the two arguments, b^2 = a^2 + 2 eps: e^eps F(-b) = e^{-a^2/2} erfcx(b/sqrt2) / 2,
  // which cannot overflow.
  const double a = epsilon.value / mu - 0.5 * mu;
  const double b = epsilon.value / mu + 0.5 * mu;
  const double second = 0.5 * std::exp(-0.5 * a * a) * scaled_erfc(b / std::numbers::sqrt2);
  const double first = a > 0.0 ? 0.5 * std::exp(-0.5 * a * a) * scaled_erfc(a / std::numbers::sqrt2)
                               : normal_tail(a);
  return {std::clamp(first - second, 0.0, 1.0)};
}

Epsilon gaussian_epsilon(double mu, Delta delta) {
  if (gaussian_delta(mu, {0.0}).value <= delta.value) return {0.0};
  double low = 0.0;
  double high = 1.0;
  while (gaussian_delta(mu, {high}).value > delta.value) {
    low = high;
    high *= 2.0;
    if (std::isinf(high)) return {high};
  }
  // `high` always satisfies the bound; a few last bits more cover the rounding of delta itself.
  while (high - low > 1e-14 * high) {
    const double middle = 0.5 * (low + high);
    if (middle <= low || middle >= high) break;
    (gaussian_delta(mu, {middle}).value > delta.value ? low : high) = middle;
  }
  return {high * (1.0 + 1e-12)};
}

}  // namespace strata::privacy

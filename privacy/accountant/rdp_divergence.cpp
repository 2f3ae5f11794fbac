// The divergences of single releases.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include "privacy/accountant/rdp.h"

namespace strata::privacy {
namespace {

// ln(sum e^{terms}), and of alternating sums its logarithm of the absolute value.
double log_sum(const std::vector<double>& terms) {
  const double top = *std::max_element(terms.begin(), terms.end());
  if (std::isinf(top)) return top;
  double sum = 0.0;
  for (const double term : terms) sum += std::exp(term - top);
  return top + std::log(sum);
}

// std::lgamma leaves the sign in a global variable.
double log_gamma(double x) {
  int sign = 0;
  return ::lgamma_r(x, &sign);
}

double log_choose(double n, double k) {
  return log_gamma(n + 1.0) - log_gamma(k + 1.0) - log_gamma(n - k + 1.0);
}

// sum_k C(a,k) (1-q)^{a-k} q^k e^{(k^2-k)/2z^2} (Mironov, Talwar, Zhang 2019, section 3.3). The
// terms with k = 0 and 1 and the weights of the others make 1; what exceeds it is summed apart, so
// that small divergences keep their digits.
double log_moment_whole(double q, double z, int order) {
  const double a = order;
  std::vector<double> terms;
  double largest = 0.0;
  for (int k = 2; k <= order; ++k) {
    const double growth = (static_cast<double>(k) * k - k) / (2.0 * z * z);
    largest = std::max(largest, growth);
    const double log_expm1 =
        growth > 30.0 ? growth + std::log1p(-std::exp(-growth)) : std::log(std::expm1(growth));
    terms.push_back(log_choose(a, k) + (a - k) * std::log1p(-q) + k * std::log(q) + log_expm1);
  }
  const double excess = log_sum(terms);
  return excess > 30.0 ? excess + std::log1p(std::exp(-excess)) : std::log1p(std::exp(excess));
}

// (1+y)^a - 1 - a y without cancellation, y > -1.
double power_beyond_line(double y, double a) {
  if (std::abs(y) * a > 1e-2) return std::expm1(a * std::log1p(y)) - a * y;
  double term = 0.5 * a * (a - 1.0) * y * y;
  double sum = term;
  for (int k = 3; k <= 12; ++k) {
    term *= (a - k + 1.0) / k * y;
    sum += term;
  }
  return sum;
}

// E[(1 - q + q e^{(2x-1)/2z^2})^a] over N(0, z^2) by the trapezoidal rule, which converges like
// e^{-2 pi d / h} for an integrand analytic within d of the real line: the nearest zero of the base
// lies pi z^2 away.
double log_moment_fraction(double q, double z, double a) {
  const double step = std::min(z / 16.0, z * z / 2.0);
  const double low = -14.0 * z;
  const double high = a + 14.0 * z;
  const auto count = static_cast<std::size_t>(std::ceil((high - low) / step));
  const double log_norm = std::log(step / (z * std::sqrt(2.0 * std::numbers::pi)));
  const auto log_density = [&](double x) { return log_norm - 0.5 * (x / z) * (x / z); };
  const auto at = [&](std::size_t k) { return low + step * static_cast<double>(k); };
  std::vector<double> terms;
  terms.reserve(count + 1);
  for (std::size_t k = 0; k <= count; ++k) {
    const double x = at(k);
    const double exponent = (x - 0.5) / (z * z);
    const double base =
        exponent > 600.0 ? exponent + std::log(q) : std::log1p(q * std::expm1(exponent));
    terms.push_back(log_density(x) + a * base);
  }
  const double whole = log_sum(terms);
  if (whole > 1.0) return whole;
  // Near 1: E[base] = 1, so the moment less 1 is the mean of something positive.
  double excess = 0.0;
  for (std::size_t k = 0; k <= count; ++k) {
    const double x = at(k);
    const double y = q * std::expm1((x - 0.5) / (z * z));
    excess += std::exp(log_density(x)) * power_beyond_line(y, a);
  }
  return std::log1p(excess);
}

}  // namespace

double sampled_gaussian_rdp(double q, double z, double order) {
  if (q == 0.0 || std::isinf(z)) return 0.0;
  if (q == 1.0) return order / (2.0 * z * z);
  const bool whole = order == std::floor(order);
  const double moment =
      whole ? log_moment_whole(q, z, static_cast<int>(order)) : log_moment_fraction(q, z, order);
  return moment / (order - 1.0);
}

double laplace_rdp(double scale, double order) {
  const double inverse = 1.0 / scale;
  const double weight = (order - 1.0) / (2.0 * order - 1.0);
  return inverse + std::log1p(weight * std::expm1((1.0 - 2.0 * order) * inverse)) / (order - 1.0);
}

double without_replacement_rdp(double q, double z, int order) {
  // Swapping a record moves the sum by 2C: deviation z/2 in units of the movement.
  const double per_order = 2.0 / (z * z);  // divergence of order j: j times this
  const auto log_moment = [&](double j) { return (j - 1.0) * j * per_order; };
  // ln |sum_i (-1)^i C(l,i) e^{(i-1) i per_order}|, the l-th difference; positive for even l.
  const auto log_difference = [&](int l) {
    std::vector<double> plus;
    std::vector<double> minus;
    for (int i = 0; i <= l; ++i)
      ((l - i) % 2 == 0 ? plus : minus).push_back(log_choose(l, i) + log_moment(i));
    const double top = log_sum(plus);
    const double less = log_sum(minus) - top;
    return less < 0.0 ? top + std::log(-std::expm1(less)) : top;
  };
  std::vector<double> even(static_cast<std::size_t>(order) / 2 + 2);
  for (std::size_t l = 1; l < even.size(); ++l) even[l] = log_difference(static_cast<int>(2 * l));
  std::vector<double> terms{0.0};
  for (int j = 2; j <= order; ++j) {
    const double weight = log_choose(order, j) + j * std::log(q);
    double bound = std::numbers::ln2 + log_moment(j);
    if (j == 2) {
      bound = std::min(bound, std::log(4.0 * std::expm1(log_moment(2.0))));
    } else {
      const double mixed = 0.5 * (even[static_cast<std::size_t>(j / 2)] +
                                  even[static_cast<std::size_t>((j + 1) / 2)]);
      bound = std::min(bound, std::log(4.0) + mixed);
    }
    terms.push_back(weight + bound);
  }
  return log_sum(terms) / (order - 1.0);
}

}  // namespace strata::privacy

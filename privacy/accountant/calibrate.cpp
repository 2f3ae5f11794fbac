#include "privacy/accountant/calibrate.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace strata::privacy {
namespace {

constexpr double kMostNoise = 1e6;
constexpr double kLeastNoise = 1e-3;

// The step of the last digit that is kept: four digits, and always four decimals.
double last_digit(double z) {
  return std::pow(10.0, std::min(-4.0, std::floor(std::log10(z)) - 3));
}

}  // namespace

Result<Calibration> calibrate(const Accountant& accountant, Adjacency adjacency,
                              const NoiseTarget& target) {
  if (!(target.epsilon.value > 0.0 && std::isfinite(target.epsilon.value))) {
    return fail({.code = ErrorCode::kConfig,
                 .what = fmt::format("the target epsilon is {}", target.epsilon.value),
                 .rule = "it is above 0 and finite",
                 .remedy = "1 to 10 is usual"});
  }
  const auto statement = [&](double z) {
    const std::array phases{Phase::gaussian(z, target.rate, target.releases)};
    return accountant.epsilon(phases, adjacency, target.delta);
  };
  // How far ln(epsilon) lies above the target; below any target at epsilon 0.
  const auto excess = [&](double epsilon) {
    return std::clamp(std::log(std::max(epsilon, 1e-30) / target.epsilon.value), -20.0, 20.0);
  };
  auto silent = statement(0.0);
  if (!silent) return fail(std::move(silent).error());
  if (silent->epsilon.value == 0.0) return Calibration{.noise_multiplier = 0.0, .at = *silent};

  double high = 1.0;
  auto at_high = statement(high);
  if (!at_high) return fail(std::move(at_high).error());
  double low = high;
  double above = excess(at_high->epsilon.value);  // at low
  double below = above;                           // at high
  while (below > 0.0) {
    low = high;
    above = below;
    high *= 2.0;
    if (high > kMostNoise) {
      return fail({.code = ErrorCode::kConfig,
                   .what = fmt::format("no noise multiplier up to {} keeps epsilon {} at delta {}",
                                       kMostNoise, target.epsilon.value, target.delta.value),
                   .rule = "the target can be reached",
                   .remedy = "allow a larger epsilon or delta, or release less often"});
    }
    at_high = statement(high);
    if (!at_high) return fail(std::move(at_high).error());
    below = excess(at_high->epsilon.value);
  }
  while (above <= 0.0 && low > kLeastNoise) {
    high = low;
    below = above;
    low *= 0.5;
    auto at_low = statement(low);
    if (!at_low) return fail(std::move(at_low).error());
    above = excess(at_low->epsilon.value);
  }
  // ln(epsilon) is nearly a line in ln(z): interpolate, stepping over the root a little so that
  // both ends move, and halve wherever that does not shorten the bracket by half.
  bool halve = false;
  while (high - low > 0.2 * last_digit(high)) {
    double z = std::sqrt(low * high);
    if (!halve) {
      const double part = above / (above - below);
      const double guess = low * std::pow(high / low, part);
      const double margin = 0.05 * last_digit(high) + 0.02 * (high - low);
      z = std::clamp(guess + (guess - low < high - guess ? margin : -margin),
                     low + 0.01 * (high - low), high - 0.01 * (high - low));
    }
    auto at_z = statement(z);
    if (!at_z) return fail(std::move(at_z).error());
    const double value = excess(at_z->epsilon.value);
    const double before = high - low;
    if (value > 0.0) {
      low = z;
      above = value;
    } else {
      high = z;
      below = value;
    }
    halve = high - low > 0.5 * before;
  }
  const double step = last_digit(high);
  for (double whole = std::ceil(high / step - 1e-9);; whole += 1.0) {
    // From the digits, so that what is printed is what was billed.
    const double z = std::stod(fmt::format("{:.12g}", whole * step));
    auto at = statement(z);
    if (!at) return fail(std::move(at).error());
    if (at->epsilon.value <= target.epsilon.value) return Calibration{z, *at};
  }
}

}  // namespace strata::privacy

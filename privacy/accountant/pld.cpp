#include "privacy/accountant/pld.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <future>
#include <limits>
#include <system_error>

#include "privacy/accountant/analytic_gaussian.h"
#include "privacy/accountant/loss_sum.h"

namespace strata::privacy {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kLargestMesh = 1e-3;
constexpr double kMostPoints = 1 << 22;
constexpr double kMostMu = 1.0 / kLeastSampledNoise;
constexpr double kLeastScale = 1.0 / 500.0;

// ln(1 + q^2 (e^{1/z^2} - 1)), the divergence of order 2, is about the variance of one loss where
// it is small, and more where it is not.
double variance_of(const Composition& c) {
  double out = c.mu * c.mu;
  for (const Phase& phase : c.sampled) {
    const double moved = (c.swapped ? 2.0 : 1.0) / phase.noise;
    out += phase.releases *
           std::log1p(phase.rate * phase.rate * std::expm1(std::min(moved * moved, 600.0)));
  }
  for (const Phase& phase : c.laplace) out += phase.releases / (phase.noise * phase.noise);
  return out;
}

// Connecting the dots adds a variance of up to h^2/4 to each of T losses. That moves epsilon by
// about T h^2 / 8 through the mean and by 4.5 (T h^2 / 8) / deviation through the spread.
double mesh_for(const Composition& c, const PldOptions& options) {
  if (options.mesh > 0.0) return options.mesh;
  double releases = c.mu > 0.0 ? 1.0 : 0.0;
  for (const Phase& phase : c.sampled) releases += phase.releases;
  for (const Phase& phase : c.laplace) releases += phase.releases;
  const double spread = std::min(0.5, 1.5 * std::sqrt(variance_of(c)));
  return std::min(kLargestMesh, std::sqrt(options.tolerance * spread / releases));
}

// About how far the losses of one release reach, for a grid that fits into memory.
double reach_of(const Composition& c) {
  double out = 0.0;
  const auto gaussian = [&](double q, double z) {
    const double most = std::min((0.5 + 10.0 * z) / (z * z), 600.0);
    out = std::max(out, 2.0 * std::log1p(q * std::expm1(most)) - std::log1p(-std::min(q, 0.99)));
  };
  for (const Phase& phase : c.sampled) gaussian(phase.rate, phase.noise / (c.swapped ? 2.0 : 1.0));
  if (c.mu > 0.0) gaussian(1.0, 1.0 / c.mu);
  for (const Phase& phase : c.laplace)
    out = std::max(out, 2.0 * std::min(600.0, 1.0 / phase.noise));
  return out;
}

std::vector<LossPart> parts_of(const Composition& c, Direction direction, double mesh) {
  std::vector<LossPart> out;
  if (c.mu > 0.0)
    out.push_back({sampled_gaussian_losses(1.0, 1.0 / c.mu, Direction::kRemove, mesh), 1.0});
  for (const Phase& phase : c.sampled) {
    out.push_back({c.swapped ? swapped_gaussian_losses(phase.rate, phase.noise, mesh)
                             : sampled_gaussian_losses(phase.rate, phase.noise, direction, mesh),
                   phase.releases});
  }
  for (const Phase& phase : c.laplace)
    out.push_back({laplace_losses(phase.noise, mesh), phase.releases});
  return out;
}

// Losses too large for a grid: epsilon is above several hundred, and infinity is a bound.
bool beyond_grid(const Composition& c) {
  return c.mu > kMostMu || (!c.laplace.empty() && c.laplace.front().noise < kLeastScale);
}

// Only sampled releases without a swap tell the directions apart.
std::vector<Direction> directions_of(const Composition& c) {
  if (c.swapped || c.sampled.empty()) return {Direction::kRemove};
  return {Direction::kRemove, Direction::kAdd};
}

struct Sum {
  std::vector<LossPart> parts;
  double tilt = 0.0;
  Window window;
};

// Half of the best tilt already makes the rounding small beside delta, and keeps the tilted masses
// away from the far end of the losses, where the sum would spread.
template <class Tilt>
Sum prepare(const Composition& c, Direction direction, double& mesh, const Tilt& tilt) {
  for (;;) {
    Sum out;
    out.parts = parts_of(c, direction, mesh);
    out.tilt = 0.5 * tilt(out.parts);
    out.window = window_of(out.parts, out.tilt);
    const double points = (out.window.high - out.window.low) / mesh;
    if (points <= kMostPoints) return out;
    mesh *= 1.05 * points / kMostPoints;  // coarser: still an upper bound, less tight
  }
}

double start_mesh(const Composition& c, const PldOptions& options) {
  return std::max(mesh_for(c, options), reach_of(c) / kMostPoints);
}

// The larger of what the directions come to; the second one in a thread of its own, if there may be
// one more.
template <class One>
PldBound worst_direction(const Composition& c, PldBound out, const One& one) {
  const auto directions = directions_of(c);
  std::future<PldBound> beside;
  if (directions.size() > 1) {
    try {
      beside = std::async(std::launch::async, one, directions[1]);
    } catch (const std::system_error&) {
      beside = std::async(std::launch::deferred, one, directions[1]);
    }
  }
  std::vector<PldBound> bounds{one(directions[0])};
  if (beside.valid()) bounds.push_back(beside.get());
  for (const PldBound& own : bounds) {
    out.epsilon.value = std::max(out.epsilon.value, own.epsilon.value);
    out.delta.value = std::max(out.delta.value, own.delta.value);
    out.mesh = std::max(out.mesh, own.mesh);
    out.points = std::max(out.points, own.points);
  }
  return out;
}

}  // namespace

Result<PldBound> pld_epsilon(const Composition& c, Delta delta, const PldOptions& options) {
  if (auto valid = check_delta(delta); !valid) return fail(std::move(valid).error());
  if (delta.value < kSmallestPldDelta) {
    return fail({.code = ErrorCode::kConfig,
                 .what = fmt::format("delta is {}", delta.value),
                 .rule = fmt::format("the pld accountant works from {} on", kSmallestPldDelta),
                 .remedy = "take a larger delta, or the rdp accountant"});
  }
  PldBound out{.epsilon = {0.0}, .delta = delta};
  if (c.unbounded) out.epsilon = {kInfinity};
  if (c.unbounded || c.empty()) return out;
  if (c.sampled.empty() && c.laplace.empty()) {
    out.epsilon = gaussian_epsilon(c.mu, delta);
    return out;
  }
  if (beyond_grid(c)) {
    out.epsilon = {kInfinity};
    return out;
  }
  return worst_direction(c, out, [&](Direction direction) {
    PldBound own{.epsilon = {0.0}, .delta = delta, .mesh = start_mesh(c, options)};
    const Sum sum = prepare(c, direction, own.mesh, [&](const auto& parts) {
      return tilt_for_delta(parts, std::log(1.0 / delta.value));
    });
    const LossSum tilted(sum.parts, sum.tilt, sum.window);
    own.epsilon = {tilted.epsilon(delta.value)};
    own.points = tilted.points();
    if (own.epsilon.value < tilted.lowest() && tilted.lowest() > 0.0 && sum.tilt > 0.0) {
      // The answer lies below the tilted window: once more with all of the mass in view.
      own.epsilon = {LossSum(sum.parts, 0.0, window_of(sum.parts, 0.0)).epsilon(delta.value)};
    }
    check(!std::isnan(own.epsilon.value), "an epsilon is a number");
    return own;
  });
}

Result<PldBound> pld_delta(const Composition& c, Epsilon epsilon, const PldOptions& options) {
  if (auto valid = check_epsilon(epsilon); !valid) return fail(std::move(valid).error());
  PldBound out{.epsilon = epsilon, .delta = {0.0}};
  if (c.unbounded) out.delta = {1.0};
  if (c.unbounded || c.empty() || std::isinf(epsilon.value)) return out;
  if (c.sampled.empty() && c.laplace.empty()) {
    out.delta = gaussian_delta(c.mu, epsilon);
    return out;
  }
  if (beyond_grid(c)) {
    out.delta = {1.0};
    return out;
  }
  return worst_direction(c, out, [&](Direction direction) {
    PldBound own{.epsilon = epsilon, .delta = {0.0}, .mesh = start_mesh(c, options)};
    const Sum sum = prepare(c, direction, own.mesh, [&](const auto& parts) {
      return tilt_for_epsilon(parts, epsilon.value);
    });
    const LossSum tilted(sum.parts, sum.tilt, sum.window);
    own.points = tilted.points();
    if (epsilon.value < tilted.lowest() && sum.tilt > 0.0)
      own.delta = {LossSum(sum.parts, 0.0, window_of(sum.parts, 0.0)).delta(epsilon.value)};
    else
      own.delta = {tilted.delta(epsilon.value)};
    check(!std::isnan(own.delta.value), "a delta is a number");
    return own;
  });
}

}  // namespace strata::privacy

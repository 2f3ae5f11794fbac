#include "privacy/accountant/loss_masses.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>
#include <span>

#include "privacy/accountant/analytic_gaussian.h"

namespace strata::privacy {
namespace {

constexpr double kDeviations = 10.0;  // beyond: 8e-24 < e^-50
constexpr double kMostLoss = 600.0;   // e^600 is a double

struct Node {
  double at;  // in [0, 1]
  double weight;
};

// Gauss-Legendre rules on [0, 1] of 2, 3 and 5 points.
constexpr std::array kTwo{Node{0.21132486540518713, 0.5}, Node{0.78867513459481287, 0.5}};
constexpr std::array kThree{Node{0.11270166537925830, 5.0 / 18}, Node{0.5, 8.0 / 18},
                            Node{0.88729833462074170, 5.0 / 18}};
constexpr std::array kFive{
    Node{0.046910077030668004, 0.11846344252809454}, Node{0.23076534494715845, 0.23931433524968324},
    Node{0.5, 0.28444444444444444}, Node{0.76923465505284155, 0.23931433524968324},
    Node{0.95308992296933200, 0.11846344252809454}};

// The rule that is exact to double precision on a panel of `width` deviations.
std::span<const Node> rule_for(double width) {
  if (width <= 2e-4) return kTwo;
  if (width <= 5e-3) return kThree;
  return kFive;
}

double normal_density(double x, double z) {
  const double t = x / z;
  return std::exp(-0.5 * t * t) / (z * std::sqrt(2.0 * std::numbers::pi));
}

// ln((e^loss - 1 + q) / q): the exponent y at which 1 - q + q e^y is e^loss; -infinity below
// ln(1 - q), which no exponent reaches.
double exponent_at(double loss, double q) {
  if (q == 1.0) return loss;
  if (loss > 30.0) return loss + std::log1p((q - 1.0) * std::exp(-loss)) - std::log(q);
  const double argument = (std::expm1(loss) + q) / q;
  return argument > 0.0 ? std::log(argument) : -std::numeric_limits<double>::infinity();
}

// A curve has a coordinate u in which the loss never falls: `density` is P's, `ratio` is P/Q,
// `at(loss)` the u where the loss reaches `loss`, [low, high] what is kept, `below` and `above`
// P's mass outside, `scale` the length on which the curve bends.
struct RemoveCurve {
  double q, z;
  double low, high, below, above, scale;

  RemoveCurve(double rate, double noise)
      : q(rate),
        z(noise),
        low(std::max(-kDeviations * z, at(-kMostLoss))),
        high(std::min(1.0 + kDeviations * z, at(kMostLoss))),
        below((1.0 - q) * normal_tail(-low / z) + q * normal_tail((1.0 - low) / z)),
        above((1.0 - q) * normal_tail(high / z) + q * normal_tail((high - 1.0) / z)),
        scale(std::min(noise, noise * noise)) {}
  [[nodiscard]] double ratio(double u) const { return 1.0 - q + q * std::exp((u - 0.5) / (z * z)); }
  [[nodiscard]] double density(double u) const { return normal_density(u, z) * ratio(u); }
  [[nodiscard]] double at(double loss) const { return z * z * exponent_at(loss, q) + 0.5; }
};

struct AddCurve {
  double q, z;
  double low, high, below, above, scale;

  AddCurve(double rate, double noise)
      : q(rate),
        z(noise),
        low(-kDeviations * noise),
        high(-low),
        below(normal_tail(kDeviations)),
        above(below),
        scale(std::min(noise, noise * noise)) {}
  [[nodiscard]] double ratio(double u) const {
    return 1.0 / (1.0 - q + q * std::exp((-u - 0.5) / (z * z)));
  }
  [[nodiscard]] double density(double u) const { return normal_density(u, z); }
  [[nodiscard]] double at(double loss) const { return -(z * z * exponent_at(-loss, q) + 0.5); }
};

struct SwapCurve {
  double q, z;
  double low, high, below, above, scale;

  SwapCurve(double rate, double noise)
      : q(rate),
        z(noise),
        low(std::max(-kDeviations * z, at(-kMostLoss))),
        high(std::min(1.0 + kDeviations * z, at(kMostLoss))),
        below((1.0 - q) * normal_tail(-low / z) + q * normal_tail((1.0 - low) / z)),
        above((1.0 - q) * normal_tail(high / z) + q * normal_tail((high - 1.0) / z)),
        scale(std::min(noise, noise * noise)) {}
  [[nodiscard]] double side(double u) const { return 1.0 - q + q * std::exp((u - 0.5) / (z * z)); }
  [[nodiscard]] double ratio(double u) const { return side(u) / side(-u); }
  [[nodiscard]] double density(double u) const { return normal_density(u, z) * side(u); }
  // With w = e^{u/z^2}, A = q e^{-1/2z^2}, B = 1 - q and t = e^loss:  A w^2 - B (t-1) w - t A = 0.
  [[nodiscard]] double at(double loss) const {
    if (loss < 0.0) return -at(-loss);
    const double a = std::max(q * std::exp(-0.5 / (z * z)), 1e-300);
    const double b = -(1.0 - q) * std::expm1(-loss);
    const double root = std::hypot(b, 2.0 * a * std::exp(-0.5 * loss));
    return z * z * (loss + std::log(b + root) - std::log(2.0 * a));
  }
};

struct LaplaceCurve {
  double low, high;
  double scale = 1.0;

  explicit LaplaceCurve(double b) : low(-1.0 / b), high(1.0 / b) {}
  [[nodiscard]] static double ratio(double u) { return std::exp(u); }
  [[nodiscard]] double density(double u) const { return 0.25 * std::exp(0.5 * (u - high)); }
  [[nodiscard]] static double at(double loss) { return loss; }
};

class Grid {
 public:
  Grid(double mesh, double lowest, double highest) : mesh_(mesh), span_(-std::expm1(-mesh)) {
    out_.mesh = mesh;
    out_.first = static_cast<std::int64_t>(std::floor(lowest / mesh));
    const auto last = static_cast<std::int64_t>(std::ceil(highest / mesh));
    out_.mass.assign(static_cast<std::size_t>(std::max(last, out_.first + 1) - out_.first + 1),
                     0.0);
  }

  [[nodiscard]] std::size_t buckets() const { return out_.mass.size() - 1; }
  [[nodiscard]] double loss(std::size_t bucket) const {
    return mesh_ * static_cast<double>(out_.first + static_cast<std::int64_t>(bucket));
  }
  // The mass of one loss in `bucket`, where e^-loss is `e_low` times the ratio at its lower end.
  void add(std::size_t bucket, double mass, double low_over_ratio) {
    const double upper = std::clamp((1.0 - low_over_ratio) / span_, 0.0, 1.0) * mass;
    out_.mass[bucket + 1] += upper;
    out_.mass[bucket] += mass - upper;
  }
  void add_atom(double at, double mass) {
    const double cell = std::floor(at / mesh_) - static_cast<double>(out_.first);
    const auto bucket =
        static_cast<std::size_t>(std::clamp(cell, 0.0, static_cast<double>(buckets() - 1)));
    add(bucket, mass, std::exp(loss(bucket) - at));
  }
  void add_lowest(double mass) { out_.mass.front() += mass; }

  // What quadrature left over or short in the last digits is put right, so that T releases do not
  // multiply it.
  [[nodiscard]] LossMasses take(double infinity) {
    double sum = 0.0;
    double carry = 0.0;
    for (const double mass : out_.mass) {
      const double term = mass - carry;
      const double next = sum + term;
      carry = (next - sum) - term;
      sum = next;
    }
    for (double& mass : out_.mass) mass *= (1.0 - infinity) / sum;
    out_.infinity = infinity;
    return std::move(out_);
  }

 private:
  double mesh_;
  double span_;
  LossMasses out_;
};

template <class Curve>
void integrate(const Curve& curve, Grid& grid) {
  const double panel = curve.scale / 16.0;
  double begin = curve.low;
  for (std::size_t bucket = 0; bucket < grid.buckets(); ++bucket) {
    double end = curve.high;
    if (bucket + 1 < grid.buckets())
      end = std::clamp(curve.at(grid.loss(bucket + 1)), begin, curve.high);
    const double width = end - begin;
    if (width <= 0.0) continue;
    const auto panels = static_cast<std::size_t>(std::ceil(width / panel));
    const double step = width / static_cast<double>(panels);
    const double low = std::exp(grid.loss(bucket));
    for (std::size_t k = 0; k < panels; ++k) {
      const double from = begin + step * static_cast<double>(k);
      for (const Node& node : rule_for(step / curve.scale)) {
        const double u = from + step * node.at;
        grid.add(bucket, curve.density(u) * step * node.weight, low / curve.ratio(u));
      }
    }
    begin = end;
  }
}

template <class Curve>
LossMasses gaussian_masses(const Curve& curve, double mesh) {
  Grid grid(mesh, std::log(curve.ratio(curve.low)), std::log(curve.ratio(curve.high)));
  grid.add_lowest(curve.below);
  integrate(curve, grid);
  return grid.take(std::min(curve.above, 1.0));
}

}  // namespace

LossMasses sampled_gaussian_losses(double q, double z, Direction direction, double mesh) {
  if (direction == Direction::kRemove) return gaussian_masses(RemoveCurve(q, z), mesh);
  return gaussian_masses(AddCurve(q, z), mesh);
}

LossMasses swapped_gaussian_losses(double q, double z, double mesh) {
  return gaussian_masses(SwapCurve(q, z), mesh);
}

LossMasses laplace_losses(double scale, double mesh) {
  const LaplaceCurve curve(scale);
  Grid grid(mesh, curve.low, curve.high);
  integrate(curve, grid);
  grid.add_atom(curve.low, 0.5 * std::exp(-1.0 / scale));
  grid.add_atom(curve.high, 0.5);
  return grid.take(0.0);
}

}  // namespace strata::privacy

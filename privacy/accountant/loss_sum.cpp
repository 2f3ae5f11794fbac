#include "privacy/accountant/loss_sum.h"

#include <algorithm>
#include <cmath>
#include <complex>
#include <limits>
#include <unsupported/Eigen/FFT>

namespace strata::privacy {
namespace {

constexpr double kTail = 36.0;           // e^-36 = 2.3e-16 of mass outside the window on a side
constexpr double kMostExponent = 650.0;  // e^650 is a double with room for sums
constexpr double kRoot2 = 1.4142135623730951;
constexpr double kSmallestTilt = 1.0 / 65536;
constexpr double kFloor = 1e-14;  // added to every delta, for all sums of this file
constexpr double kRounding = 8.0 * 1.1e-16;

// ln sum p e^{t l}. The powers of e^{t h} by multiplication, set right before they have grown or
// fallen by e^100 and at least every 256.
double log_moment_of_one(const LossMasses& losses, double t) {
  const double factor = std::exp(t * losses.mesh);
  const double room = 100.0 / std::max(std::abs(t * losses.mesh), 1e-9);
  const auto step = static_cast<std::size_t>(std::clamp(room, 1.0, 256.0));
  double sum = 0.0;
  for (std::size_t begin = 0; begin < losses.mass.size(); begin += step) {
    const auto index = static_cast<double>(losses.first + static_cast<std::int64_t>(begin));
    double power = std::exp(t * losses.mesh * index);
    const std::size_t end = std::min(begin + step, losses.mass.size());
    double block = 0.0;
    for (std::size_t k = begin; k < end; ++k) {
      block += losses.mass[k] * power;
      power *= factor;
    }
    sum += block;
  }
  return std::log(sum);
}

// How far the ends of the parts' losses lie from 0: what limits t, since e^{t l} at the end that t
// weighs most must stay a double, neither too large nor nothing.
double highest_end(const std::vector<LossPart>& parts) {
  double out = 1e-6;
  for (const auto& part : parts) out = std::max(out, std::abs(part.losses.highest()));
  return out;
}
double lowest_end(const std::vector<LossPart>& parts) {
  double out = 1e-6;
  for (const auto& part : parts) out = std::max(out, std::abs(part.losses.lowest()));
  return out;
}

// The t in (0, limit] with the smallest value(t), a function with one valley, among powers of sqrt
// 2 times `start`. A t that misses the best by a quarter of its size costs 3 %.
template <class Value>
double valley(double start, double limit, const Value& value) {
  double best = std::min(start, limit);
  double least = value(best);
  const auto walk = [&](double factor) {
    int rising = 0;
    for (double t = best * factor; t <= limit && t > kSmallestTilt && rising < 2; t *= factor) {
      const double here = value(t);
      rising = here < least ? 0 : rising + 1;
      if (here >= least) continue;
      least = here;
      best = t;
    }
  };
  const double begin = best;
  walk(kRoot2);
  if (best == begin) walk(1.0 / kRoot2);
  return best;
}

// One over the deviation of the sum: a tilt that moves it by about itself.
double usual_tilt(const std::vector<LossPart>& parts) {
  double variance = 0.0;
  for (const auto& part : parts) {
    const LossMasses& losses = part.losses;
    double mean = 0.0;
    double square = 0.0;
    for (std::size_t k = 0; k < losses.mass.size(); ++k) {
      const double loss =
          losses.mesh * static_cast<double>(losses.first + static_cast<std::int64_t>(k));
      mean += losses.mass[k] * loss;
      square += losses.mass[k] * loss * loss;
    }
    variance += part.count * std::max(square - mean * mean, 0.0);
  }
  return 1.0 / std::sqrt(std::max(variance, 1e-12));
}

double tilt_limit(const std::vector<LossPart>& parts) { return kMostExponent / highest_end(parts); }

// An FFT length of at least `points`: 2, 3 or 5 times a power of two.
std::size_t fft_length(std::size_t points) {
  std::size_t power = 16;
  while (power < points) power *= 2;
  if (power / 8 * 5 >= points) return power / 8 * 5;
  if (power / 4 * 3 >= points) return power / 4 * 3;
  return power;
}

}  // namespace

double log_moment(const std::vector<LossPart>& parts, double t) {
  double out = 0.0;
  for (const auto& part : parts) out += part.count * log_moment_of_one(part.losses, t);
  return out;
}

double tilt_for_delta(const std::vector<LossPart>& parts, double target) {
  return valley(usual_tilt(parts), tilt_limit(parts),
                [&](double t) { return (log_moment(parts, t) + target) / t; });
}

double tilt_for_epsilon(const std::vector<LossPart>& parts, double epsilon) {
  return valley(usual_tilt(parts), tilt_limit(parts),
                [&](double t) { return log_moment(parts, t) - t * epsilon; });
}

Window window_of(const std::vector<LossPart>& parts, double tilt) {
  const double here = log_moment(parts, tilt);
  Window out;
  double least = 0.0;
  double most = 0.0;
  for (const auto& part : parts) {
    most += part.count * part.losses.highest();
    least += part.count * part.losses.lowest();
  }
  const double up_limit = kMostExponent / highest_end(parts) - tilt;
  const double down_limit = tilt + kMostExponent / lowest_end(parts);
  const auto above = [&](double t) { return (log_moment(parts, tilt + t) - here + kTail) / t; };
  const auto below = [&](double t) { return (log_moment(parts, tilt - t) - here + kTail) / t; };
  const double usual = 8.0 * usual_tilt(parts);  // e^-36 lies some eight deviations out
  out.high = std::min(most, above(valley(usual, up_limit, above)));
  out.low = std::max(least, -below(valley(usual, down_limit, below)));
  return out;
}

LossSum::LossSum(const std::vector<LossPart>& parts, double tilt, const Window& window)
    : mesh_(parts.front().losses.mesh),
      first_(static_cast<std::int64_t>(std::floor(window.low / mesh_))) {
  const double wanted = std::ceil(window.high / mesh_) - static_cast<double>(first_) + 1.0;
  const std::size_t length = fft_length(static_cast<std::size_t>(wanted));
  const auto size = static_cast<std::int64_t>(length);
  Eigen::FFT<double> fft;
  fft.SetFlag(Eigen::FFT<double>::HalfSpectrum);
  // The product of powers as a sum of logarithms, and what each part adds to the constants.
  std::vector<std::complex<double>> exponent(length / 2 + 1);
  std::vector<std::complex<double>> spectrum;
  double moment = 0.0;
  double releases = 0.0;
  double finite = 0.0;  // ln of the probability that no loss is infinite
  for (const auto& part : parts) {
    const LossMasses& losses = part.losses;
    const double own = log_moment_of_one(losses, tilt);
    moment += part.count * own;
    releases += part.count;
    finite += part.count * std::log1p(-losses.infinity);
    // A circle of `length`: the loss n h lies at n mod length, whatever the window.
    std::vector<double> circle(length, 0.0);
    for (std::size_t k = 0; k < losses.mass.size(); ++k) {
      const std::int64_t n = losses.first + static_cast<std::int64_t>(k);
      const double tilted = losses.mass[k] * std::exp(tilt * mesh_ * static_cast<double>(n) - own);
      circle[static_cast<std::size_t>(((n % size) + size) % size)] += tilted;
    }
    fft.fwd(spectrum, circle);
    for (std::size_t k = 0; k < exponent.size(); ++k) {
      // Beyond e^-80 nothing is left, and the argument need not be known.
      const double size_log = 0.5 * std::log(std::norm(spectrum[k]));
      if (!(exponent[k].real() > -80.0) || !(part.count * size_log > -80.0))
        exponent[k] = -std::numeric_limits<double>::infinity();
      else
        exponent[k] += part.count * std::complex(size_log, std::arg(spectrum[k]));
    }
  }
  spectrum.resize(exponent.size());
  for (std::size_t k = 0; k < exponent.size(); ++k) {
    spectrum[k] = exponent[k].real() > -80.0
                      ? std::polar(std::exp(exponent[k].real()), exponent[k].imag())
                      : std::complex(0.0, 0.0);
  }
  std::vector<double> circle(length);
  fft.inv(circle, spectrum, static_cast<Eigen::Index>(length));
  // A relative error of each factor of the power, and of the transforms.
  const double rounding = kRounding * (releases + 2.0 * std::log2(static_cast<double>(length)));
  mass_.resize(length);
  slack_.resize(length);
  const auto untilt = [&](std::int64_t n) {
    return std::exp(
        std::clamp(moment - tilt * mesh_ * static_cast<double>(n), -700.0, kMostExponent));
  };
  for (std::size_t k = 0; k < length; ++k) {
    const std::int64_t n = first_ + static_cast<std::int64_t>(k);
    const double tilted = circle[static_cast<std::size_t>(((n % size) + size) % size)];
    const double weight = untilt(n);
    mass_[k] = std::max(tilted, 0.0) * weight;
    slack_[k] = rounding * weight;
  }
  // What lay above the window went round the circle to its lower end: it counts as infinite. What
  // lay below came in at the upper end, where it counts for more than it was.
  const double above = std::exp(-kTail) * untilt(first_ + size);
  constant_ = -std::expm1(finite) + above + kFloor;
}

// The curve from the top of the window down, one grid point at a time, as sums of positive numbers:
// delta(l_n) = sum_{j>n} m_j (1 - e^{-(j-n)h}).
struct LossSum::Walk {
  explicit Walk(const LossSum& owner)
      : sum(owner),
        fall(std::exp(-owner.mesh_)),
        rise(-std::expm1(-owner.mesh_)),
        index(owner.mass_.size() - 1),
        rest(owner.mass_.back()) {}

  // At grid point `index`: `curve` is delta there without constants, `rest` is sum_{j>=index} m_j
  // e^{-(j-index)h}.
  void down() {
    curve += rise * rest;
    --index;
    rest = sum.mass_[index] + fall * rest;
  }
  [[nodiscard]] double extra(std::size_t at) const { return sum.constant_ + sum.slack_[at]; }
  [[nodiscard]] double loss() const {
    return sum.mesh_ * static_cast<double>(sum.first_ + static_cast<std::int64_t>(index));
  }

  const LossSum& sum;
  double fall, rise;
  std::size_t index;
  double rest;
  double curve = 0.0;
};

double LossSum::delta(double epsilon) const {
  Walk walk(*this);
  if (epsilon >= walk.loss()) return std::min(1.0, walk.extra(walk.index));
  while (walk.index > 0 && walk.loss() - mesh_ > epsilon) walk.down();
  // Between two grid points the curve is a chord in e^eps.
  const double more = -std::expm1(epsilon - walk.loss()) * walk.rest;
  const std::size_t below = walk.index > 0 ? walk.index - 1 : 0;
  return std::min(1.0, walk.curve + more + walk.extra(below));
}

double LossSum::epsilon(double delta) const {
  Walk walk(*this);
  if (walk.extra(walk.index) > delta) return std::numeric_limits<double>::infinity();
  while (walk.index > 0 && walk.curve + walk.rise * walk.rest + walk.extra(walk.index - 1) <= delta)
    walk.down();
  const double left = delta - walk.curve - walk.extra(walk.index > 0 ? walk.index - 1 : 0);
  if (left <= 0.0) return walk.loss();
  if (left >= walk.rest) return -std::numeric_limits<double>::infinity();
  return walk.loss() + std::log1p(-left / walk.rest);
}

}  // namespace strata::privacy

#include "privacy/merged_noise.h"

#include <algorithm>
#include <cmath>

namespace strata::privacy {
namespace {

constexpr double kRowOfA = 1.0 / 3.0;  // E ||row||^2 of a fresh A

}  // namespace

double MergedNoise::norm() const { return std::sqrt(linear + product); }

MergedNoise& MergedNoise::operator+=(const MergedNoise& other) {
  linear += other.linear;
  product += other.product;
  return *this;
}

MergedNoise merged_noise(std::size_t d_out, std::size_t d_in, std::span<const NoisyFactors> clients,
                         Merge merge) {
  const auto rows = static_cast<double>(d_out), columns = static_cast<double>(d_in);
  MergedNoise out;
  double mean_a = 0.0, mean_b = 0.0, width = 0.0, shares = 0.0;
  bool own_a = false;
  for (const auto& c : clients) {
    const auto rank = static_cast<double>(c.rank);
    const double share = c.weight * c.weight, scale = c.scale * c.scale;
    out.linear += share * scale * rows * c.b * rank * kRowOfA;
    out.product += share * scale * rows * rank * columns * c.a * c.b;
    shares += share;
    own_a = own_a || c.own_a;
    mean_a += share * c.a;
    mean_b += share * c.b;
    width = std::max(width, scale * rank);
  }
  if (merge == Merge::kFactors) {
    out.product = width * rows * columns * mean_a * mean_b;
    if (own_a) out.linear *= shares;
  }
  return out;
}

}  // namespace strata::privacy

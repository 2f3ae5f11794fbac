#include "privacy/client_sum.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace strata::privacy {
namespace {

constexpr std::size_t kPiece = std::size_t{1} << 16;  // a sum is cut the same way for any team
// Kept below the bound, so that no rounding of a factor lifts a norm above it.
const double kBelow = 1.0 - std::ldexp(1.0, -20);

double norm_of(std::span<const float> values, tensor::Team& team) {
  const std::size_t pieces = (values.size() + kPiece - 1) / kPiece;
  std::vector<double> squares(pieces, 0.0);
  team.for_tasks(pieces, [&](std::size_t i, int) {
    for (const float v : values.subspan(i * kPiece, std::min(kPiece, values.size() - i * kPiece)))
      squares[i] += static_cast<double>(v) * static_cast<double>(v);
  });
  double sum = 0.0;
  for (const double part : squares) sum += part;
  return std::sqrt(sum);
}

bool usable(double number) { return number > 0.0 && std::isfinite(number); }

}  // namespace

Result<ClientSum> ClientSum::make(const ClientSumConfig& config, std::size_t values) {
  if (config.clip.kind != "flat" && config.clip.kind != "normalise") {
    return fail({.code = ErrorCode::kConfig,
                 .what = "is \"" + config.clip.kind + "\"",
                 .where = "privacy.clip.kind",
                 .rule = "a client's update is one vector with one bound",
                 .remedy = "use \"flat\" or \"normalise\""});
  }
  if (!usable(config.weight_max) || !usable(config.denominator)) {
    return fail({.code = ErrorCode::kConfig,
                 .what = fmt::format("are {} and {}", config.weight_max, config.denominator),
                 .where = "privacy.weights",
                 .rule = "weights and denominator are above 0 and finite"});
  }
  auto grid = noise::Grid::make(config.clip.norm, config.noise_multiplier, config.grid_bits);
  if (!grid) return fail(std::move(grid).error());
  return ClientSum(config, *grid, values);
}

void ClientSum::add(std::span<float> update, double weight, tensor::Team& team) {
  strata::check(weight > 0.0 && weight <= config_.weight_max, "a weight is one of the plan's");
  const auto& clip = config_.clip;
  const double norm = norm_of(update, team);
  double factor = 1.0;
  if (clip.kind == "normalise") {
    factor = clip.norm / (norm + clip.gamma) * kBelow;
  } else if (!(norm <= clip.norm)) {  // also when it is no number: refused by the sum
    factor = clip.norm / norm * kBelow;
  }
  // The grid's bound is C for the heaviest client; lighter ones stay further below it.
  factor *= weight / config_.weight_max;
  if (factor != 1.0) {
    const auto narrow = static_cast<float>(factor);
    team.for_range(update.size(), kPiece, [&](std::size_t first, std::size_t last, int) {
      for (std::size_t i = first; i < last; ++i) update[i] *= narrow;
    });
  }
  sum_.add(std::span<const float>(update), team);
}

Result<void> ClientSum::release(noise::NoiseSupply& supply, std::span<float> out,
                                tensor::Team& team) {
  return sum_.release(supply, config_.denominator / config_.weight_max, out, team);
}

}  // namespace strata::privacy

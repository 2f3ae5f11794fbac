#include "client/private_gradient.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/simd.h"
#include "client/square_sum.h"

namespace strata::client {
namespace {

constexpr std::size_t kHeldBytes = 64u << 20;
constexpr std::size_t kPiece = 1u << 16;  // values of one task: a sum is cut the same way always
// Kept below the bound, so that no rounding of a factor lifts a norm above it.
const double kBelow = 1.0 - std::ldexp(1.0, -20);
// The count of units below C is centred to +-1/2: one unit moves the sum by 1/2.
constexpr double kBit = 0.5;
constexpr int kBitGrid = 20;

STRATA_SIMD void scale(float* values, float factor, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) values[i] *= factor;
}

STRATA_SIMD void add(float* out, const float* in, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) out[i] += in[i];
}

Result<double> bound_of(const config::Entries<double>& bounds, const std::string& layer) {
  for (const auto& [pattern, bound] : bounds) {
    auto matches = adapter::names_module(pattern, layer);
    if (!matches) return fail(std::move(matches).error());
    if (*matches) return bound;
  }
  return fail({.code = ErrorCode::kConfig,
               .what = "names no norm for " + layer,
               .where = "privacy.clip.bounds",
               .rule = "every trained layer has one",
               .remedy = "add it, or \".*\" for the rest"});
}

// Heads of a layer are clipped together: whoever moves one moves no other.
std::string layer_of(const std::string& param) {
  const std::string owner = param.substr(0, param.rfind('.'));
  const std::size_t heads = owner.rfind(".heads.");
  return owner.substr(0, heads);
}

}  // namespace

PrivateGradient::PrivateGradient(const DpSgdConfig& config, const adapter::AdapterSet& adapters,
                                 std::vector<float>& memory)
    : config_(config),
      width_(adapters.trainable_count()),
      norm_(config.clip.norm),
      gradients_(&memory) {}

// The parts that are clipped by themselves: all values, or those of each layer.
Result<std::vector<PrivateGradient::Layer>> PrivateGradient::layers_of(
    const privacy::ClipConfig& clip, const adapter::AdapterSet& adapters) {
  const bool by_layer = clip.kind == "per_layer";
  std::vector<Layer> out;
  std::size_t at = 0;
  std::string current;
  for (const auto& param : adapters.params()) {
    const std::string layer = by_layer ? layer_of(param.name) : "";
    if (out.empty() || layer != current) {
      double bound = clip.norm;
      if (by_layer) {
        auto found = bound_of(clip.bounds, layer);
        if (!found) return fail(std::move(found).error());
        bound = *found;
      }
      out.push_back({.from = at, .count = 0, .bound = bound});
      current = layer;
    }
    out.back().count += param.value.size();
    at += param.value.size();
  }
  return out;
}

Result<double> PrivateGradient::clip_norm_of(const privacy::ClipConfig& clip,
                                             const adapter::AdapterSet& adapters) {
  if (clip.kind != "per_layer") return clip.norm;
  auto layers = layers_of(clip, adapters);
  if (!layers) return fail(std::move(layers).error());
  double squares = 0.0;
  for (const Layer& layer : *layers) squares += layer.bound * layer.bound;
  return std::sqrt(squares);
}

Result<PrivateGradient> PrivateGradient::make(const DpSgdConfig& config, double clip_norm,
                                              const adapter::AdapterSet& adapters,
                                              std::vector<float>& memory) {
  PrivateGradient out(config, adapters, memory);
  auto layers = layers_of(config.clip, adapters);
  if (!layers) return fail(std::move(layers).error());
  out.layers_ = *std::move(layers);
  check(!out.layers_.empty() && out.layers_.back().from + out.layers_.back().count == out.width_,
        "the layers cover every trained value");
  auto norm = clip_norm_of(config.clip, adapters);
  if (!norm) return fail(std::move(norm).error());
  out.norm_ = *norm;
  if (clip_norm > 0.0 && config.clip.kind == "adaptive") out.norm_ = clip_norm;
  if (auto made = out.make_sums(); !made) return fail(std::move(made).error());
  return out;
}

Result<void> PrivateGradient::make_sums() {
  auto grid = noise::Grid::make(norm_, config_.noise_multiplier, config_.grid_bits);
  if (!grid) return fail(std::move(grid).error());
  sum_.emplace(*grid, width_);
  if (config_.clip.kind != "adaptive") return {};
  layers_.front().bound = norm_;
  auto bits = noise::Grid::make(kBit, *config_.clip.sigma_b / kBit, kBitGrid);
  if (!bits) return fail(std::move(bits).error());
  below_.emplace(*bits, 1);
  return {};
}

std::size_t PrivateGradient::records_max() const {
  return std::max<std::size_t>(1, kHeldBytes / (width_ * sizeof(float)));
}

const adapter::RecordGradients& PrivateGradient::begin_pass(
    std::span<const std::uint32_t> offsets) {
  const std::size_t records = offsets.size() - 1;
  if (gradients_->size() < records * width_) gradients_->resize(records * width_);
  target_ = {.data = gradients_->data(), .stride = width_, .offsets = offsets};
  norms_.clear();
  return target_;
}

Result<void> PrivateGradient::end_pass(const std::vector<bool>& last, tensor::Team& team) {
  check(last.size() + 1 == target_.offsets.size(), "every record of the pass belongs to a unit");
  for (std::size_t i = 0; i < last.size(); ++i) {
    const std::span<float> own(gradients_->data() + i * width_, width_);
    if (last[i] && !unit_open_) {  // a unit of one record
      add_unit(own, team);
      continue;
    }
    unit_.resize(width_);
    if (!std::exchange(unit_open_, true)) std::fill(unit_.begin(), unit_.end(), 0.0f);
    team.for_range(width_, kPiece, [&](std::size_t first, std::size_t end, int) {
      add(unit_.data() + first, own.data() + first, end - first);
    });
    if (!last[i]) continue;
    add_unit(unit_, team);
    unit_open_ = false;
  }
  return {};
}

void PrivateGradient::add_unit(const std::function<void(std::span<float>)>& fill,
                               tensor::Team& team) {
  check(!unit_open_, "the last record of a unit ends it");
  if (gradients_->size() < width_) gradients_->resize(width_);
  const std::span<float> own(gradients_->data(), width_);
  fill(own);
  add_unit(own, team);
}

double PrivateGradient::norm_of(std::span<const float> values, tensor::Team& team) {
  const std::size_t pieces = (values.size() + kPiece - 1) / kPiece;
  parts_.assign(pieces, 0.0);
  team.for_tasks(pieces, [&](std::size_t i, int) {
    parts_[i] =
        square_sum(values.data() + i * kPiece, std::min(kPiece, values.size() - i * kPiece));
  });
  double sum = 0.0;
  for (const double part : parts_) sum += part;
  return std::sqrt(sum);
}

void PrivateGradient::add_unit(std::span<float> gradient, tensor::Team& team) {
  double squares = 0.0;
  for (const Layer& layer : layers_) {
    const auto part = gradient.subspan(layer.from, layer.count);
    const double norm = norm_of(part, team);
    squares += norm * norm;
    double factor = 1.0;
    if (config_.clip.kind == "normalise") {
      factor = layer.bound / (norm + config_.clip.gamma);
    } else if (!(norm <= layer.bound)) {  // also when it is no number: refused below
      factor = layer.bound / norm;
    } else {
      continue;
    }
    const auto narrow = static_cast<float>(factor * kBelow);
    team.for_range(part.size(), kPiece, [&](std::size_t first, std::size_t end, int) {
      scale(part.data() + first, narrow, end - first);
    });
  }
  norms_.push_back(std::sqrt(squares));
  sum_->add(std::span<const float>(gradient), team);
  if (!below_) return;
  const float bit = norms_.back() <= norm_ ? static_cast<float>(kBit) : -static_cast<float>(kBit);
  below_->add(std::span(&bit, 1), team);
}

Result<void> PrivateGradient::release(noise::NoiseSupply& supply,
                                      std::span<const adapter::ParamRef> params,
                                      tensor::Team& team) {
  check(!unit_open_, "the last record of a unit ends it");
  if (gradients_->size() < width_) gradients_->resize(width_);
  const std::span<float> out(gradients_->data(), width_);
  if (auto done = sum_->release(supply, config_.divisor, out, team); !done) return done;
  std::size_t at = 0;
  for (const auto& param : params) {
    std::copy_n(out.begin() + static_cast<std::ptrdiff_t>(at), param.grad.size(),
                param.grad.begin());
    at += param.grad.size();
  }
  check(at == width_, "the noise covers every trained value");
  if (!below_) return {};
  float centred = 0.0f;
  if (auto done = below_->release(supply, config_.divisor, std::span(&centred, 1), team); !done)
    return done;
  const double share = 0.5 + static_cast<double>(centred);
  norm_ = std::clamp(norm_ * std::exp(-config_.clip.eta * (share - config_.clip.quantile)),
                     config_.clip.norm_min, config_.clip.norm_max);
  return make_sums();
}

}  // namespace strata::client

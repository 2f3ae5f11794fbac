#include "client/record_clipping.h"

#include <algorithm>
#include <cmath>

#include "base/simd.h"
#include "client/square_sum.h"

namespace strata::client {
namespace {

constexpr std::size_t kHeldBytes = 64u << 20;
constexpr std::size_t kPiece = 1u << 16;  // values of one task: a sum is cut the same way always

STRATA_SIMD void add_scaled(float* out, const float* in, float factor, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) out[i] += factor * in[i];
}

}  // namespace

RecordClipping::RecordClipping(double max_norm, const adapter::AdapterSet& adapters,
                               std::vector<float>& memory)
    : max_norm_(max_norm),
      adapters_(&adapters),
      width_(adapters.trainable_count()),
      gradients_(memory) {}

std::size_t RecordClipping::records_max() const {
  return std::max<std::size_t>(1, kHeldBytes / (width_ * sizeof(float)));
}

const adapter::RecordGradients& RecordClipping::begin_pass(std::span<const std::uint32_t> offsets) {
  const std::size_t records = offsets.size() - 1;
  if (gradients_.size() < records * width_) gradients_.resize(records * width_);
  target_ = {.data = gradients_.data(), .stride = width_, .offsets = offsets};
  return target_;
}

std::span<const double> RecordClipping::end_pass(double scale, tensor::Team& team) {
  const std::size_t records = target_.offsets.size() - 1;
  const std::size_t pieces = (width_ + kPiece - 1) / kPiece;
  const auto length = [&](std::size_t piece) { return std::min(kPiece, width_ - piece * kPiece); };
  parts_.assign(records * pieces, 0.0);
  team.for_tasks(records * pieces, [&](std::size_t i, int) {
    const std::size_t record = i / pieces;
    const std::size_t piece = i % pieces;
    parts_[i] = square_sum(gradients_.data() + record * width_ + piece * kPiece, length(piece));
  });
  norms_.assign(records, 0.0);
  std::vector<float> factors(records);
  for (std::size_t r = 0; r < records; ++r) {
    for (std::size_t p = 0; p < pieces; ++p) norms_[r] += parts_[r * pieces + p];
    norms_[r] = std::sqrt(norms_[r]);
    const double kept = norms_[r] > max_norm_ ? max_norm_ / norms_[r] : 1.0;
    factors[r] = static_cast<float>(scale * kept);
  }
  // The values of params() lie one behind another in a record's gradient.
  struct Part {
    float* out;
    std::size_t from;
    std::size_t count;
  };
  std::vector<Part> work;
  std::size_t at = 0;
  for (const auto& param : adapters_->params()) {
    for (std::size_t first = 0; first < param.grad.size(); first += kPiece) {
      work.push_back(
          {param.grad.data() + first, at + first, std::min(kPiece, param.grad.size() - first)});
    }
    at += param.grad.size();
  }
  team.for_tasks(work.size(), [&](std::size_t i, int) {
    for (std::size_t r = 0; r < records; ++r)
      add_scaled(work[i].out, gradients_.data() + r * width_ + work[i].from, factors[r],
                 work[i].count);
  });
  return norms_;
}

}  // namespace strata::client

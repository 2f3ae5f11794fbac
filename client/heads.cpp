#include "client/heads.h"

#include <algorithm>

#include "client/optimizer/optimizer.h"

namespace strata::client {
namespace {

std::size_t heads_of(const Trainable& trainable) {
  return trainable.adapters() == nullptr ? 1 : trainable.adapters()->heads();
}

}  // namespace

Heads::Heads(const Trainable& trainable, std::span<const text::Example> examples,
             std::span<const std::size_t> records)
    : Heads(trainable,
            std::vector<std::size_t>(heads_of(trainable), records.size() / heads_of(trainable))) {
  check(ends_.back() == records.size(), "every head has as many records");
  for (std::size_t i = 0; i < records.size(); ++i)
    tokens_[head_of(i)] += examples[records[i]].trained_tokens();
}

Heads::Heads(const Trainable& trainable, std::vector<std::size_t> records_by_head)
    : ends_(std::move(records_by_head)), tokens_(ends_.size(), 0) {
  check(ends_.size() == heads_of(trainable), "every head is told its records");
  for (std::size_t h = 1; h < ends_.size(); ++h) ends_[h] += ends_[h - 1];
}

std::size_t Heads::head_of(std::size_t record) const {
  return static_cast<std::size_t>(std::upper_bound(ends_.begin(), ends_.end(), record) -
                                  ends_.begin());
}

std::vector<std::uint32_t> Heads::rows(std::size_t first,
                                       std::span<const std::uint32_t> offsets) const {
  if (count() == 1) return {};
  std::vector<std::uint32_t> out{0};
  const std::size_t records = offsets.size() - 1;
  for (const std::size_t end : ends_) {
    const std::size_t here = std::clamp(end, first, first + records) - first;
    out.push_back(offsets[here]);
  }
  return out;
}

void Heads::scale(std::span<const adapter::ParamRef> params, tensor::Team& team) const {
  if (count() == 1) return;
  const auto factor = static_cast<float>(count());
  team.for_range(params.size(), 1, [&](std::size_t first, std::size_t last, int) {
    for (std::size_t i = first; i < last; ++i) {
      if (params[i].head < 0) continue;
      for (float& value : params[i].grad) value *= factor;
    }
  });
}

double Heads::clip(std::span<const adapter::ParamRef> params, double max_norm,
                   tensor::Team& team) const {
  if (count() == 1) return clip_global_norm(params, max_norm, team);
  scale(params, team);
  double largest = 0.0;
  for (int head = -1; head < static_cast<int>(count()); ++head) {
    std::vector<adapter::ParamRef> own;
    for (const auto& param : params) {
      if (param.head == head) own.push_back(param);
    }
    const double norm = clip_global_norm(own, max_norm, team);
    if (!(norm <= largest)) largest = norm;  // one that is no number is told, too
  }
  return largest;
}

}  // namespace strata::client

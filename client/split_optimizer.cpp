#include "client/split_optimizer.h"

#include <algorithm>
#include <cmath>

namespace strata::client {
namespace {

using State = std::map<std::string, std::vector<float>>;

constexpr std::string_view kOwn = "own:";
constexpr std::string_view kStep = "step";
constexpr double kKept = 0.1;  // of each tensor's moments, by size

void prune(std::vector<float>& values) {
  const auto kept = static_cast<std::size_t>(std::ceil(kKept * static_cast<double>(values.size())));
  if (kept >= values.size()) return;
  std::vector<float> sizes(values.size());
  std::transform(values.begin(), values.end(), sizes.begin(), [](float v) { return std::fabs(v); });
  const auto at = sizes.begin() + static_cast<std::ptrdiff_t>(kept);
  std::nth_element(sizes.begin(), at, sizes.end(), std::greater<>());
  const float largest_dropped = *at;
  for (float& value : values) value = std::fabs(value) > largest_dropped ? value : 0.0f;
}

}  // namespace

Result<std::unique_ptr<SplitOptimizer>> SplitOptimizer::make(const OptimizerConfig& config) {
  auto factors = make_optimizer(config);
  if (!factors) return fail(std::move(factors).error());
  auto own = make_optimizer(config);
  if (!own) return fail(std::move(own).error());
  return std::unique_ptr<SplitOptimizer>(new SplitOptimizer(std::move(*factors), std::move(*own)));
}

void SplitOptimizer::step(std::span<const adapter::ParamRef> params, double learning_rate,
                          tensor::Team& team) {
  std::vector<adapter::ParamRef> factors, own;
  for (const auto& param : params)
    (param.role == adapter::ParamRole::kBase ? own : factors).push_back(param);
  if (!factors.empty()) factors_->step(factors, learning_rate, team);
  if (!own.empty()) own_->step(own, learning_rate, team);
  used_factors_ = used_factors_ || !factors.empty();
  used_own_ = used_own_ || !own.empty();
}

void SplitOptimizer::reset() {
  factors_->reset();
  own_->reset();
  used_factors_ = used_own_ = false;
}

void SplitOptimizer::restart_factors(MomentsAfter how) {
  if (how == MomentsAfter::kKeep || !used_factors_) return;
  if (how == MomentsAfter::kReset) {
    factors_->reset();
    used_factors_ = false;
    return;
  }
  State state = factors_->state();
  for (auto& [name, values] : state) {
    if (name != kStep) prune(values);
  }
  const auto loaded = factors_->load(state);
  check(loaded.has_value(), "an optimizer takes its own state");
}

State SplitOptimizer::state() const {
  State out;
  if (used_factors_) out = factors_->state();
  if (!used_own_) return out;
  for (auto& [name, values] : own_->state()) out.emplace(std::string(kOwn) + name, values);
  return out;
}

Result<void> SplitOptimizer::load(const State& state) {
  State factors, own;
  for (const auto& [name, values] : state) {
    if (name.starts_with(kOwn)) {
      own.emplace(name.substr(kOwn.size()), values);
    } else {
      factors.emplace(name, values);
    }
  }
  reset();
  for (auto [part, into, used] : {std::tuple(&factors, factors_.get(), &used_factors_),
                                  std::tuple(&own, own_.get(), &used_own_)}) {
    if (part->empty()) continue;
    if (auto loaded = into->load(*part); !loaded) return loaded;
    *used = true;
  }
  return {};
}

}  // namespace strata::client

#pragma once
// The budget and the noise of a simulated coordinator that hides single clients. What it has
// charged and released outlives its processes, as a ledger does; what a process was about to do
// does not.
#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/coordinator.h"
#include "sim/worker.h"

namespace strata::sim {

/// Every draw of noise moves each value by so much more than the one before.
inline constexpr float kNoiseStep = 1000.0F;

struct Accounts {
  struct Round {
    std::size_t charges = 0;
    std::size_t draws = 0;
    std::optional<Sha256> told;
  };
  std::map<std::uint32_t, Round> rounds;
  std::size_t draws = 0;
  std::size_t taken_up = 0;  // results that an earlier process had left
  std::vector<std::string> violations;
};

class SimulatedSum final : public coordinator::PrivateSum {
 public:
  explicit SimulatedSum(Accounts& accounts) : accounts_(accounts) {}

  Result<void> affordable(const protocol::RunId&, std::uint32_t) override { return {}; }
  Result<void> charge(const protocol::RunId&, std::uint32_t round) override {
    ++accounts_.rounds[round].charges;
    charged_ = true;
    return {};
  }
  Result<void> begin(std::uint32_t round, std::size_t values) override {
    round_ = round;
    sum_.assign(values, 0.0F);
    return {};
  }
  void add(const protocol::ClientId&, std::span<float> change, tensor::Team&) override {
    for (std::size_t i = 0; i < change.size(); ++i) sum_[i] += 1e-3F * change[i];
  }
  Result<void> release(std::span<float> out, tensor::Team&) override {
    auto& own = accounts_.rounds[round_];
    if (!std::exchange(charged_, false))
      accounts_.violations.push_back("noise without a charge in round " + std::to_string(round_));
    if (own.told) accounts_.violations.push_back("noise again in round " + std::to_string(round_));
    ++own.draws;
    const float noise = kNoiseStep * static_cast<float>(++accounts_.draws);
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = noise + std::clamp(sum_[i], -1.0F, 1.0F);
    return {};
  }
  Result<void> released(const protocol::RunId&, std::uint32_t round,
                        const Sha256& result) override {
    auto& own = accounts_.rounds[round];
    if (own.charges == 0)
      accounts_.violations.push_back("told without a charge: round " + std::to_string(round));
    if (own.told && *own.told != result)
      accounts_.violations.push_back("told twice: round " + std::to_string(round));
    own.told = result;
    if (round_ != round) ++accounts_.taken_up;
    return {};
  }

 private:
  Accounts& accounts_;
  std::vector<float> sum_;
  std::uint32_t round_ = 0;
  bool charged_ = false;
};

/// Factors of `rank` at zero, both trained.
[[nodiscard]] inline coordinator::CommonStart zero_start(std::vector<LayerShape> layers,
                                                         std::size_t rank) {
  return [layers = std::move(layers), rank](std::uint32_t) -> Result<coordinator::CommonFactors> {
    coordinator::CommonFactors out;
    for (const auto& layer : layers) {
      out.emplace(layer.name, coordinator::CommonTensor{.d_out = layer.d_out,
                                                        .d_in = layer.d_in,
                                                        .b = tensor::Matrix(layer.d_out, rank),
                                                        .a = tensor::Matrix(rank, layer.d_in),
                                                        .trains_a = true});
    }
    return out;
  };
}

}  // namespace strata::sim

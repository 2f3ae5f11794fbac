#pragma once
// Two instances of one optimizer: for the factors of adapters, which may start afresh while a run
// goes on, and for tensors that are trained themselves, which never do. So a fresh factor has a
// step count of its own.
#include <memory>

#include "client/optimizer/optimizer.h"

namespace strata::client {

/// What a start with new factors does to the moments of the old ones.
enum class MomentsAfter {
  kReset,  // zero, and steps count from the start
  kKeep,
  kPrune,  // all but the largest tenth of each tensor's zero (as ReLoRA, Lialin et al. 2023)
};

class SplitOptimizer final : public Optimizer {
 public:
  /// kConfig when unknown.
  [[nodiscard]] static Result<std::unique_ptr<SplitOptimizer>> make(const OptimizerConfig& config);

  void step(std::span<const adapter::ParamRef> params, double learning_rate,
            tensor::Team& team) override;
  void reset() override;
  void restart_factors(MomentsAfter how);
  /// State of the factors under their names, of the rest behind "own:".
  [[nodiscard]] std::map<std::string, std::vector<float>> state() const override;
  [[nodiscard]] Result<void> load(const std::map<std::string, std::vector<float>>& state) override;

 private:
  SplitOptimizer(std::unique_ptr<Optimizer> factors, std::unique_ptr<Optimizer> own)
      : factors_(std::move(factors)), own_(std::move(own)) {}
  std::unique_ptr<Optimizer> factors_;
  std::unique_ptr<Optimizer> own_;
  bool used_factors_ = false;
  bool used_own_ = false;
};

}  // namespace strata::client

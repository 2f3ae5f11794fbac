#pragma once
// Optimizers over ParamRefs. An instance belongs to one training thread and keeps its state
// (moments) by parameter name, so that a client can keep it across rounds (`keep`) or drop it
// (`fresh`).
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "adapter/param.h"
#include "base/result.h"
#include "tensor/team.h"

namespace strata::client {

struct OptimizerConfig {
  std::string method = "adamw";
  double learning_rate = 1e-3;  // the schedule's value is passed to step(); this is only its peak
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.0;  // adamw: decoupled; sgd: added to the gradient, as torch does
  double momentum = 0.0;      // sgd
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  /// One update of every parameter from its gradient. `learning_rate` is this step's; each
  /// parameter's own multiplier applies on top. Parameters must be the same (by name and size) in
  /// every call between two resets. The same bits for any team.
  virtual void step(std::span<const adapter::ParamRef> params, double learning_rate,
                    tensor::Team& team) = 0;
  /// Forgets all moments and the step count.
  virtual void reset() = 0;
  /// State as named vectors, for checkpoints; load() restores bit for bit.
  [[nodiscard]] virtual std::map<std::string, std::vector<float>> state() const = 0;
  [[nodiscard]] virtual Result<void> load(
      const std::map<std::string, std::vector<float>>& state) = 0;
};

struct OptimizerEntry {
  std::string_view name;
  std::string_view help;
  std::unique_ptr<Optimizer> (*make)(const OptimizerConfig&);
};

/// Every optimizer, in the order shown to users.
[[nodiscard]] std::span<const OptimizerEntry> optimizers();
/// kConfig with the nearest name when unknown.
[[nodiscard]] Result<std::unique_ptr<Optimizer>> make_optimizer(const OptimizerConfig& config);

/// Scales all gradients so that their joint L2 norm is at most `max_norm` (as torch's
/// clip_grad_norm_: factor max_norm / (norm + 1e-6), only when below 1). Returns the norm before.
/// max_norm <= 0: only measures. Sum in double.
double clip_global_norm(std::span<const adapter::ParamRef> params, double max_norm,
                        tensor::Team& team);

}  // namespace strata::client

#include <array>
#include <cmath>

#include "client/optimizer/methods.h"
#include "config/section.h"

namespace strata::client {
namespace {

constexpr std::array kOptimizers{
    OptimizerEntry{"adamw", "Adam with decoupled weight decay, as torch.optim.AdamW", make_adamw},
    OptimizerEntry{"sgd", "gradient descent with momentum, as torch.optim.SGD", make_sgd},
};

struct Bound {
  std::string_view key;
  double value;
  bool holds;
  std::string_view rule;
};

Result<void> in_range(const OptimizerConfig& c) {
  const auto fraction = [](double x) { return x >= 0.0 && x < 1.0; };
  const std::array bounds{
      Bound{"learning_rate", c.learning_rate,
            std::isfinite(c.learning_rate) && c.learning_rate > 0.0, "greater than 0"},
      Bound{"beta1", c.beta1, fraction(c.beta1), "at least 0 and below 1"},
      Bound{"beta2", c.beta2, fraction(c.beta2), "at least 0 and below 1"},
      Bound{"epsilon", c.epsilon, std::isfinite(c.epsilon) && c.epsilon > 0.0, "greater than 0"},
      Bound{"weight_decay", c.weight_decay, std::isfinite(c.weight_decay) && c.weight_decay >= 0.0,
            "at least 0"},
      Bound{"momentum", c.momentum, fraction(c.momentum), "at least 0 and below 1"},
  };
  for (const auto& bound : bounds) {
    if (bound.holds) continue;
    return fail({.code = ErrorCode::kConfig,
                 .what = std::string(bound.key) + " is " + std::to_string(bound.value),
                 .where = "training",
                 .rule = "it must be " + std::string(bound.rule)});
  }
  return {};
}

}  // namespace

std::span<const OptimizerEntry> optimizers() { return kOptimizers; }

Result<std::unique_ptr<Optimizer>> make_optimizer(const OptimizerConfig& config) {
  if (auto valid = in_range(config); !valid) return fail(std::move(valid).error());
  std::vector<std::string> names;
  for (const auto& entry : kOptimizers) {
    if (entry.name == config.method) return entry.make(config);
    names.emplace_back(entry.name);
  }
  Error unknown{.code = ErrorCode::kConfig,
                .what = "unknown optimizer \"" + printable(config.method) + "\"",
                .where = "training.optimizer",
                .rule = "one of:"};
  for (const auto& name : names) unknown.rule += " " + name;
  if (const auto near = config::nearest(config.method, names))
    unknown.remedy = "did you mean \"" + *near + "\"?";
  return fail(std::move(unknown));
}

}  // namespace strata::client

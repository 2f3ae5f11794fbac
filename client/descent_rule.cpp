#include "client/descent_rule.h"

#include <vector>

#include "client/optimizer/optimizer.h"
#include "client/schedule/schedule.h"

namespace strata::client {
namespace {

class DescentRule final : public model::FoldRule {
 public:
  DescentRule(const TrainingConfig& training, std::unique_ptr<Optimizer> optimizer,
              const Schedule& schedule)
      : training_(training), optimizer_(std::move(optimizer)), schedule_(schedule) {}

  void fold(model::Model& model, const adapter::Packet& packet, std::uint32_t round,
            tensor::Team* team) override {
    std::vector<std::vector<float>> gradients;
    gradients.reserve(packet.tensors.size());
    std::vector<adapter::ParamRef> params;
    std::vector<model::Parameter*> changed;
    for (const auto& [name, tensor] : packet.tensors) {
      const std::size_t at = model.find(name);
      check(at != model::kNone, "a packet was checked against the model");
      auto& parameter = model.parameters()[at];
      auto& gradient = gradients.emplace_back(parameter.size(), 0.0f);
      adapter::merge(gradient, parameter.transposed(), tensor, team);
      params.push_back({.name = name,
                        .role = adapter::ParamRole::kBase,
                        .value = parameter.master(),
                        .grad = gradient,
                        .lr_multiplier = 1.0f,
                        .decay = !parameter.is_vector()});
      changed.push_back(&parameter);
    }
    tensor::Team alone;
    tensor::Team& threads = team != nullptr ? *team : alone;
    (void)clip_global_norm(params, training_.max_grad_norm, threads);
    const double rate =
        training_.optimizer.learning_rate * schedule_.factor(static_cast<std::int64_t>(round) - 1);
    optimizer_->step(params, rate, threads);
    for (auto* parameter : changed) parameter->refresh();
  }

 private:
  TrainingConfig training_;
  std::unique_ptr<Optimizer> optimizer_;
  Schedule schedule_;
};

}  // namespace

Result<std::unique_ptr<model::FoldRule>> make_descent_rule(const TrainingConfig& training,
                                                           std::int64_t rounds) {
  auto optimizer = make_optimizer(training.optimizer);
  if (!optimizer) return fail(std::move(optimizer).error());
  auto schedule = Schedule::make(training.schedule, rounds);
  if (!schedule) return fail(std::move(schedule).error());
  return std::make_unique<DescentRule>(training, std::move(*optimizer), *schedule);
}

}  // namespace strata::client

// Stochastic gradient descent in the arithmetic of torch.optim.SGD (no dampening, no Nesterov):
//   g <- g + wd p      b <- mu b + g   (first step: b = g)      p <- p - lr b
#include "base/simd.h"
#include "client/optimizer/methods.h"
#include "client/optimizer/moments.h"

namespace strata::client {
namespace {

STRATA_SIMD void update(float* __restrict p, const float* __restrict g, std::size_t n, float rate,
                        float decay) {
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i) p[i] -= rate * (g[i] + decay * p[i]);
}

STRATA_SIMD void update_with_momentum(float* __restrict p, float* __restrict b,
                                      const float* __restrict g, std::size_t n, float rate,
                                      float decay, float momentum) {
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i) {
    b[i] = momentum * b[i] + (g[i] + decay * p[i]);
    p[i] -= rate * b[i];
  }
}

class Sgd final : public Optimizer {
 public:
  explicit Sgd(const OptimizerConfig& config) : config_(config) {}

  void step(std::span<const adapter::ParamRef> params, double learning_rate,
            tensor::Team& team) override {
    ++step_;
    const auto momentum = static_cast<float>(config_.momentum);
    const bool keeps = momentum != 0.0f;
    // Buffers begin at zero, so the first b = mu 0 + g is torch's b = g.
    const auto buffers = keeps ? buffer_.of(params) : std::vector<std::span<float>>{};
    const auto pieces = pieces_of(params);
    team.for_range(pieces.size(), 1, [&](std::size_t first, std::size_t last, int) {
      for (std::size_t k = first; k < last; ++k) {
        const auto [i, from, to] = pieces[k];
        const auto& param = params[i];
        const auto rate = static_cast<float>(learning_rate * param.lr_multiplier);
        const auto decay = static_cast<float>(param.decay ? config_.weight_decay : 0.0);
        float* value = param.value.data() + from;
        const float* grad = param.grad.data() + from;
        if (keeps) {
          update_with_momentum(value, buffers[i].data() + from, grad, to - from, rate, decay,
                               momentum);
        } else {
          update(value, grad, to - from, rate, decay);
        }
      }
    });
  }

  void reset() override {
    step_ = 0;
    buffer_.clear();
  }

  [[nodiscard]] StateVectors state() const override {
    StateVectors out;
    save_step(out, step_);
    buffer_.save(out);
    return out;
  }

  Result<void> load(const StateVectors& state) override {
    Sgd fresh(config_);
    StateVectors rest = state;
    auto step = take_step(rest);
    if (!step) return fail(std::move(step).error());
    fresh.step_ = *step;
    fresh.buffer_.take(rest);
    if (auto taken = all_taken(rest); !taken) return taken;
    *this = std::move(fresh);
    return {};
  }

 private:
  OptimizerConfig config_;
  std::uint64_t step_ = 0;
  Moments buffer_{".momentum_buffer"};
};

}  // namespace

std::unique_ptr<Optimizer> make_sgd(const OptimizerConfig& config) {
  return std::make_unique<Sgd>(config);
}

}  // namespace strata::client

// AdamW (Loshchilov & Hutter 2019, algorithm 2) in the arithmetic of torch.optim.AdamW:
//   p <- p (1 - lr wd)      m <- m + (1 - b1)(g - m)      v <- b2 v + (1 - b2) g^2
//   p <- p - lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps)
#include <cmath>

#include "base/simd.h"
#include "client/optimizer/methods.h"
#include "client/optimizer/moments.h"

namespace strata::client {
namespace {

struct Coefficients {
  float keep = 1.0f;    // 1 - lr wd
  float blend1 = 0.0f;  // 1 - b1
  float beta2 = 0.0f;
  float blend2 = 0.0f;           // 1 - b2
  float step_size = 0.0f;        // lr / (1 - b1^t)
  float root_correction = 1.0f;  // sqrt(1 - b2^t)
  float epsilon = 0.0f;
};

STRATA_SIMD void update(float* __restrict p, float* __restrict m, float* __restrict v,
                        const float* __restrict g, std::size_t n,
                        const Coefficients& coefficients) {
  const Coefficients c = coefficients;
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i) {
    const float gradient = g[i];
    const float mean = m[i] + c.blend1 * (gradient - m[i]);
    const float square = c.beta2 * v[i] + c.blend2 * (gradient * gradient);
    const float denominator = std::sqrt(square) / c.root_correction + c.epsilon;
    m[i] = mean;
    v[i] = square;
    p[i] = p[i] * c.keep - c.step_size * (mean / denominator);
  }
}

class AdamW final : public Optimizer {
 public:
  explicit AdamW(const OptimizerConfig& config) : config_(config) {}

  void step(std::span<const adapter::ParamRef> params, double learning_rate,
            tensor::Team& team) override {
    ++step_;
    const auto means = mean_.of(params);
    const auto squares = square_.of(params);
    std::vector<Coefficients> coefficients;
    coefficients.reserve(params.size());
    for (const auto& param : params) {
      check(param.grad.size() == param.value.size(), "a gradient is as long as its parameter");
      coefficients.push_back(at_step(learning_rate * param.lr_multiplier, param.decay));
    }
    const auto pieces = pieces_of(params);
    team.for_range(pieces.size(), 1, [&](std::size_t first, std::size_t last, int) {
      for (std::size_t k = first; k < last; ++k) {
        const auto [i, from, to] = pieces[k];
        update(params[i].value.data() + from, means[i].data() + from, squares[i].data() + from,
               params[i].grad.data() + from, to - from, coefficients[i]);
      }
    });
  }

  void reset() override {
    step_ = 0;
    mean_.clear();
    square_.clear();
  }

  [[nodiscard]] StateVectors state() const override {
    StateVectors out;
    save_step(out, step_);
    mean_.save(out);
    square_.save(out);
    return out;
  }

  Result<void> load(const StateVectors& state) override {
    AdamW fresh(config_);
    StateVectors rest = state;
    auto step = take_step(rest);
    if (!step) return fail(std::move(step).error());
    fresh.step_ = *step;
    fresh.mean_.take(rest);
    fresh.square_.take(rest);
    if (auto taken = all_taken(rest); !taken) return taken;
    *this = std::move(fresh);
    return {};
  }

 private:
  // In double, as Python computes them; the vectors see floats.
  [[nodiscard]] Coefficients at_step(double rate, bool decay) const {
    const auto t = static_cast<double>(step_);
    return {.keep = static_cast<float>(decay ? 1.0 - rate * config_.weight_decay : 1.0),
            .blend1 = static_cast<float>(1.0 - config_.beta1),
            .beta2 = static_cast<float>(config_.beta2),
            .blend2 = static_cast<float>(1.0 - config_.beta2),
            .step_size = static_cast<float>(rate / (1.0 - std::pow(config_.beta1, t))),
            .root_correction = static_cast<float>(std::sqrt(1.0 - std::pow(config_.beta2, t))),
            .epsilon = static_cast<float>(config_.epsilon)};
  }

  OptimizerConfig config_;
  std::uint64_t step_ = 0;
  Moments mean_{".exp_avg"};
  Moments square_{".exp_avg_sq"};
};

}  // namespace

std::unique_ptr<Optimizer> make_adamw(const OptimizerConfig& config) {
  return std::make_unique<AdamW>(config);
}

}  // namespace strata::client

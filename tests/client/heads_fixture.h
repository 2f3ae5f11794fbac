#pragma once
// Clients with heads on a golden model, and how far apart two changes are.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "client/local_trainer.h"
#include "common/model/golden_run.h"

namespace strata::client {

inline adapter::AdapterConfig lte(std::int64_t heads, std::int64_t rank = 3) {
  adapter::AdapterConfig out{.method = "lte", .rank = rank, .alpha = 6.0};
  out.heads = heads;
  return out;
}

inline std::vector<double> dense(const adapter::TensorDelta& delta) {
  std::vector<double> out;
  adapter::add_dense(delta, 1.0, out);
  return out;
}

inline double norm(const std::vector<double>& v) {
  double sum = 0.0;
  for (const double x : v) sum += x * x;
  return std::sqrt(sum);
}

inline double distance(std::vector<double> a, const std::vector<double>& b) {
  EXPECT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) a[i] -= b[i];
  return norm(a) / std::max(norm(b), 1e-30);
}

class HeadsFixture : public testing::Test {
 protected:
  // Factors with a product that is not zero, the same wherever they are asked for.
  std::map<std::string, adapter::Factors> factors(std::size_t rank, std::uint64_t seed) const {
    std::map<std::string, adapter::Factors> out;
    sys::Stream draws(seed);
    for (const auto& shape : run_.shapes()) {
      auto& own = out[shape.module];
      own.a = tensor::Matrix(rank, shape.d_in);
      own.b = tensor::Matrix(shape.d_out, rank);
      for (float& value : own.a.values()) value = static_cast<float>(draws.uniform(-0.2, 0.2));
      for (float& value : own.b.values()) value = static_cast<float>(draws.uniform(-0.1, 0.1));
    }
    return out;
  }
  std::vector<text::Example> examples() const {
    std::vector<text::Example> out;
    for (const auto& record : run_.golden.records())
      out.push_back({record.tokens, record.trained, "golden"});
    // Six, all different: the golden ones and the same from the other end.
    for (const auto& record : run_.golden.records()) {
      text::Example turned{record.tokens, record.trained, "turned"};
      std::reverse(turned.tokens.begin(), turned.tokens.end());
      out.push_back(std::move(turned));
    }
    return out;
  }
  static TrainingConfig training(std::int64_t batch, std::int64_t steps) {
    TrainingConfig out;
    out.batch_size = batch;
    out.local_steps = steps;
    out.optimizer.learning_rate = 0.01;
    out.shuffle = false;
    out.seed = 5;
    return out;
  }
  // One client of all examples.
  LocalTrainer trainer(const adapter::AdapterConfig& adapter, const TrainingConfig& how,
                       std::uint32_t rounds,
                       std::map<std::string, adapter::Factors> initial = {}) const {
    return LocalTrainer::make({.name = "anna",
                               .adapter = adapter,
                               .initial = std::move(initial),
                               .examples = examples(),
                               .weight = 1.0},
                              how, run_.model, rounds)
        .value();
  }
  RoundTools tools() {
    return {.clock = *clock_, .observer = nobody_, .workspace = run_.workspace};
  }

  model::GoldenRun run_{"llama"};
  observe::NullObserver nobody_;
  std::unique_ptr<sys::Clock> clock_ = sys::make_posix_clock();
};

}  // namespace strata::client

// Gradients averaged in every step: several clients take the steps that one would take with all of
// their records.
#include "client/descent_rule.h"

#include <gtest/gtest.h>

#include <cmath>

#include "client/local_trainer.h"
#include "common/model/golden_run.h"
#include "coordinator/coordinator.h"
#include "model/fold.h"

namespace strata::client {
namespace {

using model::GoldenRun;
using protocol::Restart;

constexpr std::uint32_t kSteps = 6;

class DescentRuleTest : public testing::Test {
 protected:
  std::vector<text::Example> examples() const {
    std::vector<text::Example> out;
    for (const auto& record : run_.golden.records())
      out.push_back({.tokens = record.tokens, .trained = record.trained, .source = "golden"});
    return out;
  }
  static TrainingConfig training(std::int64_t batch, const std::string& optimizer) {
    TrainingConfig out;
    out.batch_size = batch;
    out.local_steps = 1;
    out.optimizer = {.method = optimizer, .learning_rate = 0.01, .weight_decay = 0.1};
    out.schedule = {.method = "cosine", .warmup_steps = 2};
    out.max_grad_norm = 0.5;
    out.shuffle = false;
    return out;
  }
  RoundTools tools() {
    return {.clock = *clock_, .observer = nobody_, .workspace = run_.workspace};
  }
  // After kSteps rounds of these shares of the records.
  model::Model trained(const std::vector<std::vector<text::Example>>& shares,
                       const std::string& optimizer) {
    auto coordinator =
        coordinator::Coordinator::make({.method = "data_parallel"}, run_.model).value();
    coordinator.fold_by(make_descent_rule(training(1, optimizer), kSteps).value());
    EXPECT_TRUE(coordinator.needs_all_packets());
    std::vector<LocalTrainer> trainers;
    for (std::size_t k = 0; k < shares.size(); ++k) {
      trainers.push_back(
          LocalTrainer::make({.name = "client-" + std::to_string(k),
                              .adapter = {.method = "full"},
                              .examples = shares[k],
                              .gradients = true},
                             training(static_cast<std::int64_t>(shares[k].size()), optimizer),
                             run_.model, kSteps)
              .value());
    }
    auto t = tools();
    for (std::uint32_t round = 1; round <= kSteps; ++round) {
      for (auto& trainer : trainers) {
        auto done = trainer.run_round(coordinator.model(),
                                      {.round = round,
                                       .rounds = kSteps,
                                       .base = coordinator.chain(),
                                       .restart = Restart::kKeep},
                                      t);
        EXPECT_TRUE(done) << done.error().line();
        if (auto taken = coordinator.accept(std::move(done->update)); !taken)
          ADD_FAILURE() << taken.error().line();
      }
      const auto closed = coordinator.close();
      EXPECT_TRUE(closed) << closed.error().line();
      packets_.push_back(closed->aggregate.packet);
    }
    return std::move(coordinator).finish();
  }
  // A whole model trained by one client for kSteps steps in one round.
  model::Model alone(const std::string& optimizer) {
    auto config = training(3, optimizer);
    config.local_steps = kSteps;
    auto trainer =
        LocalTrainer::make({.name = "alone", .adapter = {.method = "full"}, .examples = examples()},
                           config, run_.model, 1)
            .value();
    auto t = tools();
    auto coordinator = coordinator::Coordinator::make({.method = "flora"}, run_.model).value();
    auto done =
        trainer.run_round(run_.model, {.round = 1, .rounds = 1, .base = coordinator.chain()}, t);
    EXPECT_TRUE(done) << done.error().line();
    EXPECT_TRUE(coordinator.accept(std::move(done->update)));
    EXPECT_TRUE(coordinator.close());
    return std::move(coordinator).finish();
  }
  // How far the change of `a` is from that of `b`, relative to the latter.
  double apart(const model::Model& a, const model::Model& b) const {
    double difference = 0.0, size = 0.0;
    for (std::size_t i = 0; i < a.parameters().size(); ++i) {
      std::vector<float> x(a.parameters()[i].size()), y(x.size()), was(x.size());
      a.parameters()[i].copy_values(x);
      b.parameters()[i].copy_values(y);
      run_.model.parameters()[i].copy_values(was);
      for (std::size_t j = 0; j < x.size(); ++j) {
        difference += std::pow(double{x[j]} - double{y[j]}, 2);
        size += std::pow(double{y[j]} - double{was[j]}, 2);
      }
    }
    EXPECT_GT(size, 0.0);
    return std::sqrt(difference / size);
  }

  GoldenRun run_{"qwen3"};
  std::vector<adapter::Packet> packets_;
  observe::NullObserver nobody_;
  std::unique_ptr<sys::Clock> clock_ = sys::make_posix_clock();
};

TEST_F(DescentRuleTest, ManyClientsTakeTheStepsOfOne) {
  const auto all = examples();  // of unequal numbers of tokens
  for (const std::string optimizer : {"sgd", "adamw"}) {
    const auto expected = alone(optimizer);
    // Where a gradient is nearly nothing AdamW makes much of its rounding.
    const double bound = optimizer == "sgd" ? 1e-5 : 2e-3;
    EXPECT_LT(apart(trained({{all[0]}, {all[1], all[2]}}, optimizer), expected), bound);
    EXPECT_LT(apart(trained({{all[2]}, {all[0]}, {all[1]}}, optimizer), expected), bound);
  }
}

TEST_F(DescentRuleTest, WhoFoldsTheSamePacketsHasTheSameBits) {
  const auto all = examples();
  model::Model reached = trained({{all[0]}, {all[1], all[2]}}, "adamw");
  for (const int threads : {1, 3}) {
    model::Model other = run_.model;
    tensor::Team team(threads);
    const auto rule = make_descent_rule(training(1, "adamw"), kSteps).value();
    std::uint32_t round = 0;
    for (const auto& packet : packets_) rule->fold(other, packet, ++round, &team);
    EXPECT_EQ(hex(other.state_hash()), hex(reached.state_hash()));
  }
}

// Of each client's own gradient, which is not clipped.
TEST_F(DescentRuleTest, ClientsTellTheNormOfTheirGradients) {
  class Norms final : public observe::Observer {
   public:
    void on(const observe::Event& event) override {
      for (const auto& [name, value] : event.fields)
        if (name == "grad_norm") seen.push_back(std::get<double>(value));
    }
    std::vector<double> seen;
  };
  auto trainer = LocalTrainer::make({.name = "north",
                                     .adapter = {.method = "full"},
                                     .examples = examples(),
                                     .gradients = true},
                                    training(3, "adamw"), run_.model, 1)
                     .value();
  Norms norms;
  RoundTools t{.clock = *clock_, .observer = norms, .workspace = run_.workspace};
  auto done = trainer.run_round(run_.model, {.round = 1, .rounds = 1}, t);
  ASSERT_TRUE(done) << done.error().line();
  double sum = 0.0;
  for (const auto& [name, delta] : done->update.delta) {
    std::vector<double> values;
    adapter::add_dense(delta, 1.0, values);
    for (const double value : values) sum += value * value;
  }
  ASSERT_EQ(norms.seen.size(), 1U);
  EXPECT_GT(norms.seen[0], 0.5) << "the clip norm, so that clipping would show";
  EXPECT_NEAR(norms.seen[0], std::sqrt(sum), 1e-4 * norms.seen[0]);
}

TEST_F(DescentRuleTest, RefusesAdapters) {
  auto coordinator =
      coordinator::Coordinator::make({.method = "data_parallel"}, run_.model).value();
  coordinator::PlannedUpdate update{.client = "north"};
  update.ranks = {{"model.layers.0.self_attn.q_proj.weight", 4}};
  const auto able = coordinator.check_clients(std::span(&update, 1));
  ASSERT_FALSE(able);
  EXPECT_NE(able.error().line().find("adapter of rank 4"), std::string::npos);
}

}  // namespace
}  // namespace strata::client

// Ten optimizer steps against PEFT and transformers with torch's optimizers
// (tests/golden/model.py), family by family.
#include <gtest/gtest.h>

#include "client/local_trainer.h"
#include "client/training_step.h"
#include "common/model/golden_run.h"

namespace strata::client {
namespace {

using model::GoldenRun;

std::vector<text::Example> examples_of(const support::Golden& golden) {
  std::vector<text::Example> out;
  for (const auto& record : golden.records())
    out.push_back({record.tokens, record.trained, "golden"});
  return out;
}

// Losses before each step, all records in every step.
std::vector<double> losses(GoldenRun& run, const adapter::AdapterConfig& config,
                           const TrainingConfig& training, std::size_t steps) {
  const sys::Stream stream(1);
  auto trainable = make_trainable(config, run.model, stream, stream).value();
  if (config.method != "full") {
    const auto loaded = trainable->load(run.factors(run.golden.adapter()));
    if (!loaded) throw std::runtime_error(loaded.error().line());
  }
  auto optimizer = make_optimizer(training.optimizer).value();
  auto schedule = Schedule::make(training.schedule, static_cast<std::int64_t>(steps)).value();
  trainable->begin_round(run.model);
  model::Workspace workspace(2);
  model::Decoder decoder(trainable->model(), workspace);
  StepMemory memory;
  const auto examples = examples_of(run.golden);
  const std::vector<std::size_t> records{0, 1, 2};
  std::vector<double> out;
  for (std::size_t step = 0; step < steps; ++step) {
    const double rate =
        training.optimizer.learning_rate * schedule.factor(static_cast<std::int64_t>(step));
    auto report = training_step(decoder, memory, *trainable, *optimizer, examples, records,
                                training, rate, stream);
    if (!report) throw std::runtime_error(report.error().line());
    out.push_back(report->loss);
  }
  return out;
}

void expect_losses(const std::vector<double>& actual, const std::vector<double>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i)
    EXPECT_NEAR(actual[i], expected[i], 1e-4 * expected[i]) << "step " << i;
}

TrainingConfig adamw() {
  TrainingConfig training;
  training.optimizer = {.method = "adamw", .learning_rate = 1e-2, .weight_decay = 0.01};
  training.max_grad_norm = 0.0;
  return training;
}

const adapter::AdapterConfig kLora{.rank = 4, .alpha = 6.0};

class Trajectory : public testing::TestWithParam<std::string> {};

TEST_P(Trajectory, TenAdamWStepsOfLoraEqualPeft) {
  GoldenRun run(GetParam());
  expect_losses(losses(run, kLora, adamw(), 10), run.golden.numbers("lora.adamw.losses"));
}

TEST_P(Trajectory, ClippedStepsOnACosineScheduleEqualPeft) {
  GoldenRun run(GetParam());
  TrainingConfig training = adamw();
  training.max_grad_norm = 0.5;
  training.schedule = {.method = "cosine", .warmup_steps = 2};
  expect_losses(losses(run, kLora, training, 10), run.golden.numbers("lora.cosine.losses"));
}

TEST_P(Trajectory, CuttingTheBatchIntoPassesChangesNothingBeyondRounding) {
  GoldenRun run(GetParam());
  TrainingConfig training = adamw();
  training.pass_tokens = 12;
  expect_losses(losses(run, kLora, training, 10), run.golden.numbers("lora.adamw.losses"));
}

INSTANTIATE_TEST_SUITE_P(Families, Trajectory,
                         testing::Values("llama", "llama3_rope", "llama_bf16", "mistral", "qwen2",
                                         "qwen3", "gpt2"),
                         [](const auto& family) { return family.param; });

TEST(TrajectoryLlama, LoraPlusStepsEqualPeft) {
  GoldenRun run("llama");
  adapter::AdapterConfig config = kLora;
  config.lr_ratio_b = 16.0;
  TrainingConfig training = adamw();
  training.optimizer.learning_rate = 1e-3;
  expect_losses(losses(run, config, training, 3), run.golden.numbers("lora.loraplus.losses"));
}

TEST(TrajectoryLlama, FrozenAStepsEqualPeftWithoutGradientForA) {
  GoldenRun run("llama");
  adapter::AdapterConfig config = kLora;
  config.method = "ffa";
  expect_losses(losses(run, config, adamw(), 3), run.golden.numbers("lora.ffa.losses"));
}

TEST(TrajectoryLlama, LoraWhoseAIsFrozenTakesTheSameSteps) {
  GoldenRun run("llama");
  adapter::AdapterConfig config = kLora;
  config.freeze_a = true;
  expect_losses(losses(run, config, adamw(), 3), run.golden.numbers("lora.ffa.losses"));
}

TEST(TrajectoryLlama, SgdWithMomentumEqualsTorch) {
  GoldenRun run("llama");
  TrainingConfig training = adamw();
  training.optimizer = {.method = "sgd", .learning_rate = 0.1, .momentum = 0.9};
  expect_losses(losses(run, kLora, training, 5), run.golden.numbers("lora.sgd.losses"));
}

class FullTrajectory : public testing::TestWithParam<std::string> {};

TEST_P(FullTrajectory, FullParameterStepsEqualTransformers) {
  GoldenRun run(GetParam());
  adapter::AdapterConfig config;
  config.method = "full";
  expect_losses(losses(run, config, adamw(), 5), run.golden.numbers("full.adamw_matrices.losses"));
}

INSTANTIATE_TEST_SUITE_P(Families, FullTrajectory, testing::Values("llama", "qwen3", "gpt2"),
                         [](const auto& family) { return family.param; });

TEST(LocalTrainer, SameSeedGivesTheSameUpdateBits) {
  GoldenRun run("llama");
  const auto update = [&] {
    TrainingConfig training;
    training.batch_size = 2;
    training.local_steps = 3;
    training.seed = 5;
    adapter::AdapterConfig config = kLora;
    config.dropout = 0.1;
    auto trainer =
        LocalTrainer::make({.name = "a", .adapter = config, .examples = examples_of(run.golden)},
                           training, run.model, 1)
            .value();
    observe::NullObserver nobody;
    const auto clock = sys::make_posix_clock();
    model::Workspace workspace(2);
    RoundTools tools{.clock = *clock, .observer = nobody, .workspace = workspace};
    return trainer.run_round(run.model, {.round = 1}, tools).value().update;
  };
  const auto first = update();
  const auto second = update();
  for (const auto& [name, delta] : first.delta) {
    const auto& a = std::get<adapter::LowRank>(delta.terms.front());
    const auto& b = std::get<adapter::LowRank>(second.delta.at(name).terms.front());
    EXPECT_EQ(a.b, b.b) << name;
    EXPECT_EQ(a.a, b.a) << name;
    EXPECT_TRUE(std::any_of(a.b.values().begin(), a.b.values().end(), [](float v) {
      return v != 0.0f;
    })) << name;
  }
}

TEST(LocalTrainer, ADivergingClientIsAnErrorThatNamesItAndTheStep) {
  GoldenRun run("llama");
  TrainingConfig training;
  training.local_steps = 50;
  training.optimizer.method = "sgd";
  training.optimizer.learning_rate = 1e30;
  training.max_grad_norm = 0.0;
  auto trainer =
      LocalTrainer::make({.name = "north", .adapter = kLora, .examples = examples_of(run.golden)},
                         training, run.model, 1)
          .value();
  observe::NullObserver nobody;
  const auto clock = sys::make_posix_clock();
  model::Workspace workspace(2);
  RoundTools tools{.clock = *clock, .observer = nobody, .workspace = workspace};
  const auto result = trainer.run_round(run.model, {.round = 1}, tools);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, ErrorCode::kNumeric);
  EXPECT_NE(result.error().line().find("client north, round 1, step"), std::string::npos)
      << result.error().line();
}

}  // namespace
}  // namespace strata::client

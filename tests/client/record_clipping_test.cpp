// Clipping of single records' gradients against the same done one record at a time.
#include "client/record_clipping.h"

#include <gtest/gtest.h>

#include <cmath>

#include "client/training_step.h"
#include "common/model/golden_run.h"

namespace strata::client {
namespace {

using model::GoldenRun;

const adapter::AdapterConfig kLora{.rank = 4, .alpha = 6.0};

std::vector<text::Example> examples_of(const support::Golden& golden) {
  std::vector<text::Example> out;
  for (const auto& record : golden.records())
    out.push_back({.tokens = {record.tokens.begin(), record.tokens.end()},
                   .trained = record.trained,
                   .source = "golden"});
  return out;
}

// Gradient of one record's mean token loss.
std::vector<double> own_gradient(GoldenRun& run, std::size_t record) {
  auto adapters = run.lora();
  model::PackedBatch batch;
  const auto examples = examples_of(run.golden);
  batch.add(examples[record].tokens, examples[record].trained);
  const std::vector<float> weights{1.0f / static_cast<float>(examples[record].trained_tokens())};
  model::Decoder decoder(run.model, run.workspace);
  (void)decoder.train(batch, {.adapters = &adapters, .record_weights = weights});
  std::vector<double> out;
  for (const auto& param : adapters.params())
    out.insert(out.end(), param.grad.begin(), param.grad.end());
  return out;
}

double norm_of(const std::vector<double>& values) {
  double sum = 0.0;
  for (const double value : values) sum += value * value;
  return std::sqrt(sum);
}

// The clipped sum of torch's float64 gradients, one record at a time, to 1e-6 of its norm: before
// anything is rounded to a grid.
TEST(RecordClipping, SumsAreThoseOfAutograd) {
  for (const std::int64_t pass_tokens : {1, 20, 100000}) {
    GoldenRun run("llama");
    const auto examples = examples_of(run.golden);
    const sys::Stream stream(1);
    auto trainable = make_trainable(kLora, run.model, stream, stream).value();
    ASSERT_TRUE(trainable->load(run.factors(run.golden.adapter())));
    trainable->begin_round(run.model);
    std::vector<std::vector<double>> own(examples.size());
    std::vector<std::size_t> all;
    double norms = 0.0;
    for (std::size_t r = 0; r < examples.size(); ++r) {
      all.push_back(r);
      const auto tokens = static_cast<double>(examples[r].trained_tokens());
      for (const auto& param : trainable->params()) {
        for (const float value :
             run.golden.values("lora.record." + std::to_string(r) + ".grad." + param.name))
          own[r].push_back(static_cast<double>(value) / tokens);
      }
      norms += norm_of(own[r]);
    }
    const double max_norm = norms / static_cast<double>(examples.size());  // clips some, not all
    std::vector<double> expected(own.front().size(), 0.0);
    for (const auto& gradient : own) {
      const double factor = std::min(1.0, max_norm / norm_of(gradient)) / 3.0;
      for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += factor * gradient[i];
    }
    ASSERT_EQ(examples.size(), 3U);
    TrainingConfig training;
    training.pass_tokens = pass_tokens;
    training.record_max_norm = max_norm;
    training.max_grad_norm = 0.0;
    training.optimizer = {.method = "sgd", .learning_rate = 1.0};
    auto optimizer = make_optimizer(training.optimizer).value();
    model::Decoder decoder(run.model, run.workspace);
    StepMemory memory;
    ASSERT_TRUE(training_step(decoder, memory, *trainable, *optimizer, examples, all, training, 0.0,
                              stream));
    std::vector<double> off = expected;
    std::size_t at = 0;
    for (const auto& param : trainable->params()) {
      for (const float value : param.grad) off[at++] -= static_cast<double>(value);
    }
    EXPECT_LT(norm_of(off), 1e-6 * norm_of(expected)) << pass_tokens;
    RecordProperty("relative_error", std::to_string(norm_of(off) / norm_of(expected) * 1e9));
  }
}

TEST(RecordClipping, AddsUpEachRecordsGradientClippedAlone) {
  GoldenRun run("llama");
  const std::size_t records = run.golden.records().size();
  std::vector<std::vector<double>> own;
  for (std::size_t r = 0; r < records; ++r) own.push_back(own_gradient(run, r));
  // Between the smallest norm and the largest: some records are clipped, some are not.
  double low = 1e30, high = 0.0;
  for (const auto& gradient : own) {
    low = std::min(low, norm_of(gradient));
    high = std::max(high, norm_of(gradient));
  }
  const double max_norm = 0.5 * (low + high);
  std::vector<double> expected(own.front().size(), 0.0);
  for (const auto& gradient : own) {
    const double factor =
        std::min(1.0, max_norm / norm_of(gradient)) / static_cast<double>(records);
    for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += factor * gradient[i];
  }

  const sys::Stream stream(1);
  auto trainable = make_trainable(kLora, run.model, stream, stream).value();
  ASSERT_TRUE(trainable->load(run.factors(run.golden.adapter())));
  trainable->begin_round(run.model);
  TrainingConfig training;
  training.record_max_norm = max_norm;
  training.max_grad_norm = 0.0;
  training.optimizer = {.method = "sgd", .learning_rate = 1.0};
  auto optimizer = make_optimizer(training.optimizer).value();
  model::Decoder decoder(run.model, run.workspace);
  StepMemory memory;
  std::vector<std::size_t> all(records);
  for (std::size_t r = 0; r < records; ++r) all[r] = r;
  const auto report = training_step(decoder, memory, *trainable, *optimizer,
                                    examples_of(run.golden), all, training, 0.0, stream);
  ASSERT_TRUE(report);
  EXPECT_NEAR(report->grad_norm, norm_of(expected), 1e-5 * norm_of(expected));
  std::size_t at = 0;
  for (const auto& param : trainable->params()) {
    for (const float value : param.grad) {
      ASSERT_NEAR(value, expected[at], 1e-5 * norm_of(expected)) << param.name;
      ++at;
    }
  }
}

TEST(RecordClipping, LeavesGradientsBelowTheNormAlone) {
  GoldenRun run("llama");
  auto adapters = run.lora();
  std::vector<float> memory;
  RecordClipping clipping(1e6, adapters, memory);
  const std::vector<std::uint32_t> offsets{0, 3, 5};
  const auto& target = clipping.begin_pass(offsets);
  std::fill_n(target.data, target.stride, 1.0f);
  std::fill_n(target.data + target.stride, target.stride, 2.0f);
  tensor::Team team(2);
  const auto norms = clipping.end_pass(0.5, team);
  const double root = std::sqrt(static_cast<double>(adapters.trainable_count()));
  EXPECT_NEAR(norms[0], root, 1e-9 * root);
  EXPECT_NEAR(norms[1], 2.0 * root, 1e-9 * root);
  for (const auto& param : adapters.params()) {
    for (const float value : param.grad) ASSERT_EQ(value, 1.5f);
  }
}

}  // namespace
}  // namespace strata::client

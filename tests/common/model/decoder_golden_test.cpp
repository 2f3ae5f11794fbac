// The decoder against transformers and PEFT (tests/golden/model.py), family by family.
#include <gtest/gtest.h>

#include "golden_run.h"

namespace strata::model {
namespace {

using support::max_abs_diff;
using support::max_rel_diff;

class DecoderGolden : public testing::TestWithParam<std::string> {};

TEST_P(DecoderGolden, LogitsEqualTransformers) {
  GoldenRun run(GetParam());
  Decoder decoder(run.model, run.workspace);
  EXPECT_LT(max_abs_diff(decoder.logits(run.batch, nullptr).values(), run.golden.values("logits")),
            2e-4);
}

TEST_P(DecoderGolden, MeanLossEqualsTransformers) {
  GoldenRun run(GetParam());
  Decoder decoder(run.model, run.workspace);
  const LossSums sums = decoder.evaluate(run.batch, nullptr);
  const double expected = run.golden.numbers("loss").at(0);
  EXPECT_EQ(sums.total_trained(), run.golden.trained_tokens());
  EXPECT_NEAR(sums.total_loss() / static_cast<double>(sums.total_trained()), expected,
              1e-5 * expected);
}

TEST_P(DecoderGolden, LogitsWithAdapterEqualPeft) {
  GoldenRun run(GetParam());
  Decoder decoder(run.model, run.workspace);
  const auto adapters = run.lora();
  EXPECT_LT(
      max_abs_diff(decoder.logits(run.batch, &adapters).values(), run.golden.values("lora.logits")),
      2e-4);
}

void expect_gradients(const adapter::AdapterSet& adapters, const support::Golden& golden,
                      const std::string& prefix) {
  const auto params = adapters.params();
  EXPECT_EQ(params.size(), golden.names(prefix).size());
  for (const auto& param : params) {
    EXPECT_LT(max_rel_diff(param.grad, golden.values(prefix + param.name)), 1e-4) << param.name;
  }
}

TEST_P(DecoderGolden, AdapterGradientsEqualPeft) {
  GoldenRun run(GetParam());
  Decoder decoder(run.model, run.workspace);
  auto adapters = run.lora();
  const auto weights = run.mean_weights();
  (void)decoder.train(run.batch, {.adapters = &adapters, .record_weights = weights});
  expect_gradients(adapters, run.golden, "lora.grad.");
}

TEST_P(DecoderGolden, CutIntoBlocksOnThreeThreadsStillEqualsPeft) {
  GoldenRun run(GetParam());
  Workspace workspace(3);
  Decoder decoder(run.model, workspace, {.logit_bytes = 1, .block_rows = 16});
  auto adapters = run.lora();
  const auto weights = run.mean_weights();
  EXPECT_LT(
      max_abs_diff(decoder.logits(run.batch, &adapters).values(), run.golden.values("lora.logits")),
      2e-4);
  (void)decoder.train(run.batch, {.adapters = &adapters, .record_weights = weights});
  expect_gradients(adapters, run.golden, "lora.grad.");
}

TEST_P(DecoderGolden, TheSameCallGivesTheSameBits) {
  GoldenRun run(GetParam());
  const auto weights = run.mean_weights();
  const auto gradients = [&] {
    Workspace workspace(2);
    Decoder decoder(run.model, workspace, {.block_rows = 16});
    auto adapters = run.lora();
    // A larger batch first, so that buffers hold what the second call must not read.
    PackedBatch twice = run.batch;
    for (const auto& record : run.golden.records()) twice.add(record.tokens, record.trained);
    (void)decoder.evaluate(twice, &adapters);
    (void)decoder.train(run.batch, {.adapters = &adapters, .record_weights = weights});
    std::vector<float> out;
    for (const auto& param : adapters.params())
      out.insert(out.end(), param.grad.begin(), param.grad.end());
    return out;
  };
  EXPECT_EQ(gradients(), gradients());
}

TEST_P(DecoderGolden, RecomputedActivationsGiveTheSameGradientBits) {
  GoldenRun run(GetParam());
  auto kept = run.lora();
  auto again = run.lora();
  const auto weights = run.mean_weights();
  (void)Decoder(run.model, run.workspace)
      .train(run.batch, {.adapters = &kept, .record_weights = weights});
  (void)Decoder(run.model, run.workspace, {.recompute = true})
      .train(run.batch, {.adapters = &again, .record_weights = weights});
  const auto a = kept.params();
  const auto b = again.params();
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_TRUE(std::equal(a[i].grad.begin(), a[i].grad.end(), b[i].grad.begin())) << a[i].name;
  }
}

TEST_P(DecoderGolden, CachedGenerationGivesTheLogitsOfTheWholeSequence) {
  GoldenRun run(GetParam());
  Decoder decoder(run.model, run.workspace);
  const auto adapters = run.lora();
  const auto all = decoder.logits(run.batch, &adapters);
  KvCache cache(run.model, run.batch.records(), 64);
  for (std::size_t r = 0; r < run.batch.records(); ++r) {
    const auto& tokens = run.golden.records()[r].tokens;
    // A prompt of three tokens at once, then one by one.
    for (std::size_t t = 3; t <= tokens.size(); ++t) {
      const std::size_t first = t == 3 ? 0 : t - 1;
      const CacheStep step{r, std::span(tokens).subspan(first, t - first)};
      const auto next = decoder.extend(cache, std::span(&step, 1), &adapters);
      const auto expected =
          std::span(all.values()).subspan((run.batch.offsets[r] + t - 1) * all.cols(), all.cols());
      EXPECT_LT(max_abs_diff(next.values(), expected), 1e-4) << "record " << r << " step " << t;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, DecoderGolden,
                         testing::Values("llama", "llama3_rope", "llama_bf16", "mistral", "qwen2",
                                         "qwen3", "gpt2"),
                         [](const auto& family) { return family.param; });

TEST(DecoderGoldenLlama, PatternAdapterOnTwoModulesEqualsPeft) {
  for (const std::string name : {"llama", "qwen3", "mistral"}) {
    GoldenRun run(name);
    Decoder decoder(run.model, run.workspace);
    auto adapters =
        run.adapters({.method = "rslora",
                      .rank = 3,
                      .alpha = 5.0,
                      .targets = {"q_proj", "v_proj"},
                      .rank_pattern = {{"layers.1.self_attn.v_proj", 6}},
                      .alpha_pattern = {{"layers.0.self_attn.v_proj", 3.0}, {"q_proj", 10.0}}},
                     run.golden.pattern_adapter());
    EXPECT_LT(max_abs_diff(decoder.logits(run.batch, &adapters).values(),
                           run.golden.values("patterns.logits")),
              2e-4);
    const auto weights = run.mean_weights();
    (void)decoder.train(run.batch, {.adapters = &adapters, .record_weights = weights});
    expect_gradients(adapters, run.golden, "patterns.grad.");
  }
}

TEST(DecoderGoldenLlama, EachRecordsOwnGradientEqualsPeft) {
  GoldenRun run("llama");
  Decoder decoder(run.model, run.workspace);
  auto adapters = run.lora();
  const std::size_t width = adapters.trainable_count();
  std::vector<float> own(run.batch.records() * width, 0.0f);
  const adapter::RecordGradients records{
      .data = own.data(), .stride = width, .offsets = run.batch.offsets};
  const std::vector<float> ones(run.batch.records(), 1.0f);
  const LossSums sums = decoder.train(
      run.batch, {.adapters = &adapters, .record_weights = ones, .records = &records});
  for (std::size_t r = 0; r < run.batch.records(); ++r) {
    const std::string prefix = "lora.record." + std::to_string(r) + ".";
    const double expected_loss = run.golden.numbers(prefix + "loss_sum").at(0);
    EXPECT_NEAR(sums.loss[r], expected_loss, 1e-5 * expected_loss);
    std::size_t at = r * width;
    for (const auto& param : adapters.params()) {
      const auto expected = run.golden.values(prefix + "grad." + param.name);
      EXPECT_LT(max_rel_diff(std::span<const float>(own).subspan(at, param.value.size()), expected),
                1e-4)
          << prefix << param.name;
      at += param.value.size();
    }
  }
}

class DecoderGoldenFull : public testing::TestWithParam<std::string> {};

TEST_P(DecoderGoldenFull, FullParameterGradientsEqualTransformers) {
  GoldenRun run(GetParam());
  // Blocks and chunks of the head far smaller than the batch: their sums must meet.
  Decoder decoder(run.model, run.workspace, {.logit_bytes = 1, .block_rows = 16});
  auto gradients = FullGradients::zeros(run.model);
  const auto weights = run.mean_weights();
  (void)decoder.train(run.batch, {.full = &gradients, .record_weights = weights});
  EXPECT_EQ(run.golden.names("full.grad.").size(), run.model.parameters().size());
  for (std::size_t i = 0; i < gradients.values.size(); ++i) {
    const auto& name = run.model.parameters()[i].name();
    // A bias in front of a softmax over keys has no gradient: there the size of the numbers
    // decides, not their ratio.
    const auto expected = run.golden.values("full.grad." + name);
    const bool ok = max_rel_diff(gradients.values[i], expected) < 1e-4 ||
                    max_abs_diff(gradients.values[i], expected) < 1e-7;
    EXPECT_TRUE(ok) << name << " " << max_rel_diff(gradients.values[i], expected);
  }
}

INSTANTIATE_TEST_SUITE_P(Families, DecoderGoldenFull, testing::Values("llama", "qwen3", "gpt2"),
                         [](const auto& family) { return family.param; });

TEST(DecoderBf16, LossAndGradientsStayNearTheFloatOnes) {
  GoldenRun run("llama", tensor::DType::kBF16);
  Decoder decoder(run.model, run.workspace);
  auto adapters = run.lora();
  const auto weights = run.mean_weights();
  const LossSums sums =
      decoder.train(run.batch, {.adapters = &adapters, .record_weights = weights});
  const double expected = run.golden.numbers("lora.loss").at(0);
  EXPECT_NEAR(sums.total_loss() / static_cast<double>(sums.total_trained()), expected,
              0.02 * expected);
  for (const auto& param : adapters.params()) {
    const auto golden = run.golden.values("lora.grad." + param.name);
    double dot = 0.0, a = 0.0, b = 0.0;
    for (std::size_t i = 0; i < golden.size(); ++i) {
      dot += static_cast<double>(param.grad[i]) * golden[i];
      a += static_cast<double>(param.grad[i]) * param.grad[i];
      b += static_cast<double>(golden[i]) * golden[i];
    }
    EXPECT_GT(dot / std::sqrt(a * b), 0.99) << param.name;
  }
}

}  // namespace
}  // namespace strata::model

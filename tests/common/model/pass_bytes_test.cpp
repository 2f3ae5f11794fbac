// The plan of a pass's memory against what the pass really takes.
#include <gtest/gtest.h>

#include "golden_run.h"

namespace strata::model {
namespace {

std::size_t longest_of(const PackedBatch& batch) {
  std::size_t out = 0;
  for (std::size_t i = 0; i + 1 < batch.offsets.size(); ++i)
    out = std::max<std::size_t>(out, batch.offsets[i + 1] - batch.offsets[i]);
  return out;
}

class PassBytes : public testing::TestWithParam<std::string> {};

TEST_P(PassBytes, ArePlannedToTheByteForTrainingAndEvaluation) {
  GoldenRun run(GetParam());
  auto adapters = run.lora();
  const auto weights = run.mean_weights();
  for (const bool recompute : {false, true}) {
    const DecoderOptions options{.recompute = recompute, .block_rows = 16};
    const PassPlan plan{.tokens = run.batch.tokens.size(),
                        .targets = run.batch.targets.size(),
                        .longest = longest_of(run.batch),
                        .adapters = &adapters};
    Workspace workspace(1);
    Decoder decoder(run.model, workspace, options);
    (void)decoder.train(run.batch, {.adapters = &adapters, .record_weights = weights});
    EXPECT_EQ(workspace.bytes(), pass_bytes(run.model, 1, options, plan));
  }
  Workspace workspace(1);
  (void)Decoder(run.model, workspace).evaluate(run.batch, nullptr);
  EXPECT_EQ(workspace.bytes(), pass_bytes(run.model, 1, {},
                                          {.tokens = run.batch.tokens.size(),
                                           .targets = run.batch.targets.size(),
                                           .longest = longest_of(run.batch),
                                           .gradients = false}));
}

INSTANTIATE_TEST_SUITE_P(Families, PassBytes,
                         testing::Values("llama", "mistral", "qwen2", "qwen3", "gpt2"),
                         [](const auto& family) { return family.param; });

TEST(PassBytesOfLongerPasses, GrowWithTheTokens) {
  GoldenRun run("llama");
  const auto bytes = [&](std::size_t tokens) {
    return pass_bytes(run.model, 2, {}, {.tokens = tokens, .targets = tokens, .longest = 64});
  };
  EXPECT_LT(bytes(64), bytes(128));
  EXPECT_LT(bytes(128), bytes(1024));
}

}  // namespace
}  // namespace strata::model

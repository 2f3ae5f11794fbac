#include "evaluation/evaluator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <string>
#include <vector>

#include "common/model/golden_run.h"

namespace strata::evaluation {
namespace {

using model::GoldenRun;
using testing::HasSubstr;

std::vector<text::Example> golden_examples(const support::Golden& golden) {
  std::vector<text::Example> out;
  for (const auto& record : golden.records())
    out.push_back({record.tokens, record.trained, "golden"});
  return out;
}

/// Records of 2 to 30 tokens, some trained in part.
std::vector<text::Example> many_examples() {
  std::vector<text::Example> out;
  sys::Stream draws(1);
  for (std::size_t i = 0; i < 40; ++i) {
    text::Example example{.source = "data.jsonl:" + std::to_string(i + 1)};
    const std::size_t length = 2 + draws.below(29);
    for (std::size_t t = 0; t < length; ++t) {
      example.tokens.push_back(static_cast<std::int32_t>(draws.below(67)));
      example.trained.push_back(t + 1 == length || draws.below(3) > 0 ? 1 : 0);
    }
    out.push_back(std::move(example));
  }
  return out;
}

class Evaluator : public testing::Test {
 protected:
  GoldenRun run_{"llama"};

  [[nodiscard]] LossReport report(std::span<const text::Example> examples,
                                  const EvaluationOptions& options = {}) const {
    return evaluate(run_.model, nullptr, examples, options).value();
  }
};

TEST_F(Evaluator, LossIsTheMeanOverTrainedTokensThatTransformersGives) {
  const auto found = report(golden_examples(run_.golden));
  const double expected = run_.golden.numbers("loss").at(0);
  EXPECT_EQ(found.trained_tokens, run_.golden.trained_tokens());
  EXPECT_NEAR(found.loss(), expected, 1e-5 * expected);
  EXPECT_DOUBLE_EQ(found.perplexity(), std::exp(found.loss()));
}

// Records of unequal length: the mean of their means is something else.
TEST_F(Evaluator, EveryTokenWeighsTheSameWhateverRecordItIsIn) {
  const auto found = report(many_examples());
  double sum = 0.0, means = 0.0;
  std::uint64_t trained = 0, correct = 0;
  for (const auto& record : found.records) {
    sum += record.loss_sum;
    trained += record.trained;
    correct += record.correct;
    means += record.loss_sum / record.trained;
  }
  EXPECT_DOUBLE_EQ(found.loss(), sum / static_cast<double>(trained));
  EXPECT_DOUBLE_EQ(found.accuracy(), static_cast<double>(correct) / static_cast<double>(trained));
  EXPECT_GT(std::abs(found.loss() - means / static_cast<double>(found.records.size())), 1e-4);
}

TEST_F(Evaluator, EachRecordsLossIsItsOwnWhateverItIsPackedWith) {
  const auto examples = many_examples();
  const auto together = report(examples, {.pass_tokens = 10000});
  for (std::size_t i = 0; i < examples.size(); ++i) {
    const auto alone = report(std::span(examples).subspan(i, 1));
    EXPECT_NEAR(together.records[i].loss_sum, alone.loss_sum, 1e-5 * alone.loss_sum) << i;
    EXPECT_EQ(together.records[i].trained, examples[i].trained_tokens());
  }
}

TEST_F(Evaluator, PassSizeChangesNothingBeyondRounding) {
  const auto examples = many_examples();
  const double expected = report(examples).loss();
  for (const std::size_t pass_tokens : {1u, 31u, 64u, 100000u})
    EXPECT_NEAR(report(examples, {.pass_tokens = pass_tokens}).loss(), expected, 1e-6 * expected);
}

TEST_F(Evaluator, WorkersChangeNoBit) {
  const auto examples = many_examples();
  const EvaluationOptions one{.pass_tokens = 50};
  const auto expected = report(examples, one);
  for (const int workers : {1, 2, 3, 100}) {
    const auto found = report(examples, {.pass_tokens = 50, .workers = workers});
    EXPECT_EQ(found.loss_sum, expected.loss_sum) << workers;
    for (std::size_t i = 0; i < examples.size(); ++i)
      EXPECT_EQ(found.records[i].loss_sum, expected.records[i].loss_sum) << i;
  }
}

TEST_F(Evaluator, AnAdapterBesideTheModelCounts) {
  const auto adapters = run_.lora();
  const auto examples = golden_examples(run_.golden);
  const auto found = evaluate(run_.model, &adapters, examples, {.workers = 2}).value();
  // The loss before the first step of a training that starts from this adapter.
  const double expected = run_.golden.numbers("lora.adamw.losses").at(0);
  EXPECT_NEAR(found.loss(), expected, 1e-5 * expected);
}

TEST_F(Evaluator, NothingTrainedHasNoLoss) {
  EXPECT_TRUE(std::isnan(report({}).loss()));
  EXPECT_TRUE(std::isnan(report({}).accuracy()));
  const std::vector<text::Example> untrained{{{1, 2, 3}, {0, 0, 0}, "x"}};
  const auto found = report(untrained);
  EXPECT_EQ(found.trained_tokens, 0u);
  EXPECT_TRUE(std::isnan(found.loss()));
}

TEST_F(Evaluator, ATokenBeyondTheVocabularyIsRefusedWithItsRecord) {
  for (const std::int32_t bad : {67, -1}) {
    auto examples = many_examples();
    examples[17].tokens[1] = bad;
    const auto found = evaluate(run_.model, nullptr, examples, {});
    ASSERT_FALSE(found);
    EXPECT_EQ(found.error().code, ErrorCode::kData);
    EXPECT_EQ(found.error().where, "data.jsonl:18");
    EXPECT_THAT(found.error().what, HasSubstr(std::to_string(bad)));
  }
}

TEST_F(Evaluator, ARecordLongerThanTheModelsPositionsIsRefused) {
  std::vector<text::Example> examples{
      {std::vector<std::int32_t>(64, 1), std::vector<std::uint8_t>(64, 1), "fits"}};
  EXPECT_TRUE(evaluate(run_.model, nullptr, examples, {}));
  examples.push_back(
      {std::vector<std::int32_t>(65, 1), std::vector<std::uint8_t>(65, 1), "too long"});
  const auto found = evaluate(run_.model, nullptr, examples, {});
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, ErrorCode::kConfig);
  EXPECT_EQ(found.error().where, "too long");
}

TEST_F(Evaluator, StopsBetweenPassesWhenAsked) {
  for (const int workers : {1, 3}) {
    std::atomic<int> asked{0};
    const auto found =
        evaluate(run_.model, nullptr, many_examples(),
                 {.pass_tokens = 1, .workers = workers, .stopped = [&] { return ++asked > 5; }});
    ASSERT_FALSE(found);
    EXPECT_EQ(found.error().code, ErrorCode::kInterrupted);
    EXPECT_LE(asked.load(), 5 + workers);
  }
}

}  // namespace
}  // namespace strata::evaluation

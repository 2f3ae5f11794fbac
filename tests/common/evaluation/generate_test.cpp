// Generation against a plain loop that runs the whole sequence through the model for every token.
#include "evaluation/generate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "common/model/golden_run.h"

namespace strata::evaluation {
namespace {

using model::GoldenRun;
using testing::Each;
using testing::HasSubstr;
using testing::SizeIs;
using Tokens = std::vector<std::int32_t>;
using Prompts = std::vector<Tokens>;

Prompts some_prompts() {
  Prompts out;
  sys::Stream draws(2);
  for (const std::size_t length : {3u, 11u, 1u, 7u, 2u}) {
    out.emplace_back();
    for (std::size_t t = 0; t < length; ++t)
      out.back().push_back(static_cast<std::int32_t>(draws.below(67)));
  }
  return out;
}

/// Logits after `sequence`, without a cache.
std::vector<float> whole(const model::Model& model, const adapter::AdapterSet* adapters,
                         const Tokens& sequence) {
  model::Workspace workspace(1);
  model::Decoder decoder(model, workspace);
  model::PackedBatch batch;
  batch.add(sequence, std::vector<std::uint8_t>(sequence.size(), 0));
  const auto logits = decoder.logits(batch, adapters);
  const auto all = logits.values();
  return {all.end() - static_cast<std::ptrdiff_t>(logits.cols()), all.end()};
}

Prompts generated(const model::Model& model, const Prompts& prompts,
                  const GenerateOptions& options) {
  model::Workspace workspace(1);
  return generate(model, nullptr, prompts, options, workspace).value();
}

class GenerateFamily : public testing::TestWithParam<std::string> {};

// "The largest" up to the rounding of a cached pass, so that a tie does not decide.
TEST_P(GenerateFamily, GreedyTakesTheLargestLogitOfTheWholeSequence) {
  const GoldenRun run(GetParam());
  const auto adapters = run.lora();
  const auto prompts = some_prompts();
  model::Workspace workspace(1);
  const auto out =
      generate(run.model, &adapters, prompts, {.max_new_tokens = 12, .batch = 2}, workspace)
          .value();
  ASSERT_EQ(out.size(), prompts.size());
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    ASSERT_THAT(out[i], SizeIs(12));
    Tokens sequence = prompts[i];
    for (const auto token : out[i]) {
      const auto logits = whole(run.model, &adapters, sequence);
      EXPECT_GE(logits[static_cast<std::size_t>(token)],
                *std::max_element(logits.begin(), logits.end()) - 1e-4f)
          << "prompt " << i << " after " << sequence.size() << " tokens";
      sequence.push_back(token);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, GenerateFamily,
                         testing::Values("llama", "mistral", "qwen3", "gpt2"),
                         [](const auto& family) { return family.param; });

class Generate : public testing::Test {
 protected:
  GoldenRun run_{"llama"};
  const model::Model& model_ = run_.model;
};

TEST_F(Generate, EndsAtAStopTokenAndLeavesItOut) {
  const Prompts prompts = some_prompts();
  const auto free = generated(model_, prompts, {.max_new_tokens = 12});
  const std::int32_t stop = free[0][5];
  const auto stopped = generated(model_, prompts, {.max_new_tokens = 12, .stops = {66, stop}});
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const auto end =
        std::find_if(free[i].begin(), free[i].end(), [&](auto t) { return t == stop || t == 66; });
    EXPECT_EQ(stopped[i], Tokens(free[i].begin(), end)) << i;
  }
  EXPECT_LE(stopped[0].size(), 5u);
}

TEST_F(Generate, APromptsAnswerDoesNotDependOnThoseBesideIt) {
  const Prompts prompts = some_prompts();
  for (const double temperature : {0.0, 1.0}) {
    const GenerateOptions base{
        .max_new_tokens = 9, .temperature = temperature, .stream = sys::Stream(5)};
    auto options = base;
    options.batch = 1;
    const auto alone = generated(model_, prompts, options);
    for (const std::size_t batch : {2u, 3u, 8u}) {
      options.batch = batch;
      EXPECT_EQ(generated(model_, prompts, options), alone) << batch;
    }
  }
}

TEST_F(Generate, UsesAllOfTheModelsPositionsAndNoMore) {
  ASSERT_EQ(model_.config().max_positions, 64u);
  // The last token is predicted from position 64 and never goes through the model itself.
  const auto out =
      generated(model_, {Tokens(60, 1), Tokens(63, 2), Tokens(3, 3)}, {.max_new_tokens = 100});
  EXPECT_THAT(out[0], SizeIs(5));
  EXPECT_THAT(out[1], SizeIs(2));
  EXPECT_THAT(out[2], SizeIs(62));
}

TEST_F(Generate, NoPromptsAndNoTokensAreNothing) {
  EXPECT_THAT(generated(model_, {}, {}), SizeIs(0));
  EXPECT_THAT(generated(model_, some_prompts(), {.max_new_tokens = 0}), Each(SizeIs(0)));
}

TEST_F(Generate, TellsEachTokenAsItComes) {
  Prompts told(5);
  GenerateOptions options{.max_new_tokens = 6};
  options.on_token = [&](std::size_t prompt, std::int32_t token) { told[prompt].push_back(token); };
  EXPECT_EQ(generated(model_, some_prompts(), options), told);
}

TEST_F(Generate, SamplingFollowsTheSeed) {
  const Prompts prompts(4, Tokens{1, 2, 3});
  const auto sampled = [&](std::uint64_t seed) {
    return generated(model_, prompts,
                     {.max_new_tokens = 10, .temperature = 1.0, .stream = sys::Stream(seed)});
  };
  EXPECT_EQ(sampled(1), sampled(1));
  EXPECT_NE(sampled(1), sampled(2));
  EXPECT_NE(sampled(1)[0], sampled(1)[1]) << "equal prompts draw apart";
}

TEST_F(Generate, ATinyNucleusOrTemperatureIsGreedy) {
  const Prompts prompts = some_prompts();
  const auto greedy = generated(model_, prompts, {.max_new_tokens = 10});
  EXPECT_EQ(generated(model_, prompts, {.max_new_tokens = 10, .temperature = 1.0, .top_p = 1e-6}),
            greedy);
  EXPECT_EQ(generated(model_, prompts, {.max_new_tokens = 10, .temperature = 1e-6}), greedy);
}

// Frequencies of the first token over many equal prompts, within five standard errors.
TEST_F(Generate, SamplesFromTheSoftmaxAtTheTemperatureCutToTheNucleus) {
  constexpr std::size_t kDraws = 4000;
  const Tokens prompt{5, 17, 40};
  const double temperature = 0.5, top_p = 0.9;
  auto logits = whole(model_, nullptr, prompt);
  std::vector<std::pair<double, std::size_t>> expected;
  double total = 0.0;
  const float largest = *std::max_element(logits.begin(), logits.end());
  for (std::size_t i = 0; i < logits.size(); ++i) {
    expected.emplace_back(std::exp((logits[i] - largest) / temperature), i);
    total += expected.back().first;
  }
  std::sort(expected.rbegin(), expected.rend());
  double mass = 0.0;
  std::size_t kept = 0;
  while (mass < top_p * total) mass += expected[kept++].first;
  ASSERT_GT(kept, 2u);
  ASSERT_LT(kept, logits.size());

  std::vector<int> count(logits.size());
  for (const auto& answer : generated(model_, Prompts(kDraws, prompt),
                                      {.max_new_tokens = 1,
                                      .temperature = temperature,
                                      .top_p = top_p,
                                      .batch = 500,
                                      .stream = sys::Stream(3)}))
    ++count[static_cast<std::size_t>(answer.at(0))];
  for (std::size_t r = 0; r < expected.size(); ++r) {
    const double p = r < kept ? expected[r].first / mass : 0.0;
    EXPECT_NEAR(count[expected[r].second], kDraws * p, 5.0 * std::sqrt(kDraws * p * (1.0 - p)))
        << "token of rank " << r;
  }
}

TEST_F(Generate, PromptsTheModelCannotTakeAreRefusedByNumber) {
  const auto refusal = [&](const Tokens& bad) {
    model::Workspace workspace(1);
    const auto out = generate(model_, nullptr, Prompts{{1, 2}, bad}, {}, workspace);
    if (out) throw std::logic_error("taken");
    EXPECT_EQ(out.error().code, ErrorCode::kData);
    EXPECT_EQ(out.error().where, "prompt 2");
    return out.error().line();
  };
  EXPECT_THAT(refusal({}), HasSubstr("empty"));
  EXPECT_THAT(refusal({1, 67}), HasSubstr("67"));
  EXPECT_THAT(refusal({-1}), HasSubstr("-1"));
  EXPECT_THAT(refusal(Tokens(64, 1)), HasSubstr("64 positions"));
}

TEST_F(Generate, StopsWhenAsked) {
  int asked = 0;
  GenerateOptions options;
  options.stopped = [&] { return ++asked > 3; };
  model::Workspace workspace(1);
  const auto out = generate(model_, nullptr, some_prompts(), options, workspace);
  ASSERT_FALSE(out);
  EXPECT_EQ(out.error().code, ErrorCode::kInterrupted);
}

}  // namespace
}  // namespace strata::evaluation

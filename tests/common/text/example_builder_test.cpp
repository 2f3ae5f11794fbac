#include "text/example_builder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "text/preview.h"
#include "tiny_models.h"

namespace strata::text {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

ModelText load(const nlohmann::json& tokenizer, std::string_view chat = "plain") {
  auto text = TinyModel(tokenizer).load(chat);
  EXPECT_TRUE(text) << text.error().line();
  return std::move(*text);
}

Record record(decltype(Record::content) content) { return {std::move(content), {}, "f.jsonl:1"}; }

// The example as [trained] text, which is easier to check by eye than ids.
std::string marked(const ModelText& model, const Record& r, BuildOptions options = {}) {
  const auto example = ExampleBuilder(model, std::move(options)).build(r);
  if (!example) return example.error().line();
  return preview_text(preview_runs(*example, model.tokenizer), PreviewMarks::kBrackets);
}

TEST(ExampleBuilder, TrainsAWholeTextAndItsEnd) {
  const auto model = load(tiny_tokenizer_with_start());
  EXPECT_EQ(marked(model, record(PlainText{"xyz"})), "<s>[xyz</s>]");
}

TEST(ExampleBuilder, TheFirstTokenOfATextWithoutStartIsNotPredicted) {
  const auto model = load(tiny_tokenizer());
  EXPECT_EQ(marked(model, record(PlainText{"xyz"})), "x[yz</s>]");
}

TEST(ExampleBuilder, TrainsOnlyTheCompletionOfAPlainPair) {
  const auto model = load(tiny_tokenizer_with_start());
  EXPECT_EQ(marked(model, record(Pair{"p:", " c"})), "<s>p:[ c</s>]");
  EXPECT_EQ(marked(model, record(Pair{"p:", "c"}), {.separator = " "}), "<s>p: [c</s>]");
}

TEST(ExampleBuilder, TrainsEverythingWhenAsked) {
  const auto model = load(tiny_tokenizer_with_start());
  EXPECT_EQ(marked(model, record(Pair{"p:", " c"}), {.completion_only = false}), "<s>[p: c</s>]");
}

TEST(ExampleBuilder, WritesPairsAndInstructionsByTheChatTemplate) {
  const auto model = load(tiny_tokenizer(), "chatml");
  EXPECT_EQ(marked(model, record(Pair{"q", "a"})),
            "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n[a<|im_end|>]\n");
  EXPECT_EQ(marked(model, record(Instruction{"be", "do", "with", "done"})),
            "<|im_start|>system\nbe<|im_end|>\n<|im_start|>user\ndo\nwith<|im_end|>\n<|im_start|>"
            "assistant\n["
            "done<|im_end|>]\n");
}

TEST(ExampleBuilder, WritesInstructionsAsStanfordAlpacaDid) {
  const auto model = load(tiny_tokenizer_with_start(), "alpaca");
  EXPECT_EQ(marked(model, record(Instruction{"", "Do", "With", "Done"})),
            "<s>Below is an instruction that describes a task, paired with an input that provides "
            "further "
            "context. Write a response "
            "that appropriately completes the request.\n\n### Instruction:\nDo\n\n### "
            "Input:\nWith\n\n### "
            "Response:\n[Done</s>]");
  EXPECT_EQ(marked(model, record(Instruction{"", "Do", "", "Done"})),
            "<s>Below is an instruction that describes a task. Write a response that appropriately "
            "completes "
            "the request.\n\n"
            "### Instruction:\nDo\n\n### Response:\n[Done</s>]");
}

TEST(ExampleBuilder, ATemplateThatWritesTheStartGetsNoSecondOne) {
  const auto model = load(tiny_tokenizer_with_start(), "mistral");
  EXPECT_EQ(marked(model, record(Pair{"q", "a"})), "<s>\\[INST\\] q \\[/INST\\][a</s>]");
}

TEST(ExampleBuilder, KeepsGivenIdsAndTheirMarks) {
  const auto model = load(tiny_tokenizer_with_start());
  const auto example = ExampleBuilder(model, {}).build(record(Tokens{{5, 6, 7}, {1, 0, 1}}));
  ASSERT_TRUE(example);
  EXPECT_THAT(example->tokens, ElementsAre(5, 6, 7));
  EXPECT_THAT(example->trained, ElementsAre(0, 0, 1));
}

TEST(ExampleBuilder, RefusesIdsOutsideTheVocabulary) {
  const auto model = load(tiny_tokenizer());
  const auto example = ExampleBuilder(model, {}).build(record(Tokens{{5, 600}, {1, 1}}));
  ASSERT_FALSE(example);
  EXPECT_EQ(example.error().code, ErrorCode::kData);
  EXPECT_THAT(
      example.error().line(),
      AllOf(HasSubstr("f.jsonl:1"), HasSubstr("input_ids[1] is 600"), HasSubstr("0 to 100")));
}

TEST(ExampleBuilder, IdsAreThoseOfTheWholeTextWhereTheAnswerBeginsBetweenTokens) {
  // A prefix "_" before each text makes every answer tokenised alone different from its part of the
  // whole.
  const auto model = load(tiny_sentencepiece());
  const auto example = ExampleBuilder(model, {}).build(record(Pair{"q ab", " ab!"}));
  ASSERT_TRUE(example) << example.error().line();
  auto whole = model.tokenizer.encode("q ab ab!</s>", false);
  ASSERT_TRUE(whole);
  EXPECT_EQ(example->tokens, *whole);
  EXPECT_EQ(example->trained_tokens(), 4u);  // _ ab ! </s>
  const std::vector<Record> records{record(Pair{"q ab", " ab!"})};
  EXPECT_EQ(ExampleBuilder(model, {}).build_all(records, "c", "f")->report.tokenized_apart, 0u);
}

TEST(ExampleBuilder, AnAnswerThatBeginsInsideATokenIsTokenizedApartAndCounted) {
  const auto model = load(tiny_tokenizer());
  const std::vector<Record> records{record(Pair{"xa", "b"}), record(Pair{"x", "ab"})};
  const auto built = ExampleBuilder(model, {}).build_all(records, "client", "f.jsonl");
  ASSERT_TRUE(built) << built.error().line();
  EXPECT_EQ(built->report.tokenized_apart, 1u);
  EXPECT_EQ(built->examples[0].tokens.size(), 4u);  // x a b </s>: not merged over the border
  EXPECT_EQ(built->examples[1].tokens.size(), 3u);  // x ab </s>
}

TEST(ExampleBuilder, CountsWhatWasKeptCutAndDropped) {
  const auto model = load(tiny_tokenizer());
  const std::vector<Record> records{record(Pair{"pp", "cc"}),        // 5 tokens, 3 trained
                                    record(Pair{"pp", "cccccc"}),    // 9, cut to 6: 4 trained
                                    record(Pair{"pppppppp", "cc"}),  // nothing trained within 6
                                    record(Tokens{{5, 6}, {0, 0}})};
  const auto built =
      ExampleBuilder(model, {.max_length = 6}).build_all(records, "client north", "f.jsonl");
  ASSERT_TRUE(built) << built.error().line();
  EXPECT_EQ(built->report.records, 4u);
  EXPECT_EQ(built->report.examples, 2u);
  EXPECT_EQ(built->report.truncated, 1u);
  EXPECT_EQ(built->report.dropped, 2u);
  EXPECT_EQ(built->report.tokens, 11u);
  EXPECT_EQ(built->report.trained_tokens, 7u);
  EXPECT_EQ(built->report.cut_tokens, 8u);
  EXPECT_EQ(built->report.line(6),
            "4 records: 2 kept (1 cut at 6 tokens, 8 tokens lost), 2 dropped (nothing to train "
            "on), 11 tokens, "
            "7 trained");
}

TEST(ExampleBuilder, NamesTheClientWithoutATokenToTrainOn) {
  const auto model = load(tiny_tokenizer());
  const ExampleBuilder builder(model, {.max_length = 6});
  const std::vector<Record> records{record(Pair{"pppppppp", "cc"})};
  const auto too_long = builder.build_all(records, "client north", "north.jsonl");
  ASSERT_FALSE(too_long);
  EXPECT_EQ(too_long.error().code, ErrorCode::kData);
  EXPECT_THAT(too_long.error().line(),
              AllOf(HasSubstr("north.jsonl"),
                    HasSubstr("client north has no token to train on in 1 records"),
                    HasSubstr("raise max_length above 6")));
  const auto nothing = builder.build_all({}, "client south", "south.jsonl");
  ASSERT_FALSE(nothing);
  EXPECT_THAT(nothing.error().line(),
              AllOf(HasSubstr("south.jsonl"), HasSubstr("client south has no record")));
}

TEST(ExampleBuilder, APromptEndsWhereTheAnswerBegins) {
  const auto plain = load(tiny_tokenizer_with_start());
  const auto pair = ExampleBuilder(plain, {}).build_prompt(record(Pair{"q:", " a"}));
  ASSERT_TRUE(pair);
  EXPECT_EQ(plain.tokenizer.decode(pair->tokens, false), "<s>q:");
  EXPECT_EQ(pair->reference, " a");
  const auto chat = load(tiny_tokenizer(), "chatml");
  const Dialogue dialogue{{{"user", "1"}, {"assistant", "2"}, {"user", "3"}, {"assistant", "4"}},
                          0};
  const auto turn = ExampleBuilder(chat, {}).build_prompt(record(dialogue));
  ASSERT_TRUE(turn);
  EXPECT_TRUE(
      chat.tokenizer.decode(turn->tokens, false)
          .ends_with("2<|im_end|>\n<|im_start|>user\n3<|im_end|>\n<|im_start|>assistant\n"));
  EXPECT_EQ(turn->reference, "4");
  EXPECT_EQ(ExampleBuilder(chat, {}).build_prompt(record(Tokens{{1}, {1}})).error().code,
            ErrorCode::kUnsupported);
}

TEST(ExampleBuilder, ErrorsOfATemplateNameTheRecord) {
  const auto model = load(tiny_tokenizer(), "llama2");
  const auto example =
      ExampleBuilder(model, {}).build(record(Dialogue{{{"assistant", "first"}}, 0}));
  ASSERT_FALSE(example);
  EXPECT_THAT(example.error().line(), HasSubstr("f.jsonl:1"));
}

TEST(Preview, EscapesBracketsAndControlBytesOfTheText) {
  const std::vector<PreviewRun> runs{{"a[0]\n", 3, false}, {"\x1b[31mred", 2, true}};
  EXPECT_EQ(preview_text(runs, PreviewMarks::kBrackets), "a\\[0\\]\n[\\x1b\\[31mred]");
  EXPECT_EQ(preview_text(runs, PreviewMarks::kColours), "a[0]\n\x1b[32m\\x1b[31mred\x1b[0m");
}

TEST(Preview, RunsCoverEveryTokenOnce) {
  const auto model = load(tiny_sentencepiece());
  const auto example = ExampleBuilder(model, {}).build(record(Pair{"q ab", " ab!"}));
  ASSERT_TRUE(example);
  const auto runs = preview_runs(*example, model.tokenizer);
  ASSERT_EQ(runs.size(), 2u);
  EXPECT_EQ(runs[0].text, "q ab");
  EXPECT_EQ(runs[1].text, " ab!</s>");
  EXPECT_EQ(runs[0].tokens + runs[1].tokens, example->tokens.size());
}

}  // namespace
}  // namespace strata::text

#include "evaluation/exact_match.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <string>
#include <vector>

#include "common/model/golden_run.h"
#include "support/letters_tokenizer.h"
#include "support/process.h"

namespace strata::evaluation {
namespace {

using model::GoldenRun;
using testing::HasSubstr;

TEST(Matches, WhiteSpaceAtBothEndsDoesNotCount) {
  EXPECT_TRUE(matches(" \t yes\r\n", "yes"));
  EXPECT_TRUE(matches("yes", "\n yes "));
  EXPECT_FALSE(matches("y es", "yes"));
}

TEST(Matches, TheWholeAnswerMustBeEqual) {
  EXPECT_TRUE(matches("yes", "yes"));
  EXPECT_FALSE(matches("yes.", "yes"));
  EXPECT_FALSE(matches("Yes", "yes"));
  EXPECT_FALSE(matches("", "yes"));
}

TEST(Matches, OfAnAnswerToALineTheFirstLineCounts) {
  EXPECT_TRUE(matches("\n yes \nand more", "yes"));
  EXPECT_FALSE(matches("no\nyes", "yes"));
}

TEST(Matches, AReferenceOfSeveralLinesIsComparedWhole) {
  EXPECT_TRUE(matches("a\nb\n", "a\nb"));
  EXPECT_FALSE(matches("a\nb\nc", "a\nb"));
  EXPECT_FALSE(matches("a", "a\nb"));
}

TEST(ExactMatchReport, ShareIsOfAllRecordsAndNothingWithoutRecords) {
  EXPECT_DOUBLE_EQ((ExactMatchReport{.answers = {}, .matched = {1, 0, 0, 1, 1}}).share(), 0.6);
  EXPECT_TRUE(std::isnan(ExactMatchReport{}.share()));
}

class ExactMatch : public testing::Test {
 protected:
  static text::ModelText load_text() {
    const support::ScratchFolder folder;
    support::write_file(folder.path() / "tokenizer.json", support::letters_tokenizer().dump());
    return text::load_model_text(*sys::make_posix_disk(), folder.path(), "plain").value();
  }

  [[nodiscard]] Result<ExactMatchReport> run(const std::vector<text::Record>& records,
                                             ExactMatchOptions options = {}) const {
    options.max_new_tokens = 6;
    return exact_match(run_.model, nullptr, text_, text::ExampleBuilder(text_, {}), records,
                       options);
  }

  /// Forty questions, whose references are the model's own answers for the even ones.
  [[nodiscard]] std::vector<text::Record> half_right() const {
    std::vector<text::Record> records;
    for (int i = 0; i < 40; ++i) {
      std::string prompt = "ask ";
      prompt += static_cast<char>('a' + i % 26);
      prompt += static_cast<char>('A' + i % 23);
      records.push_back({.content = text::Pair{prompt, "nothing of the kind"},
                         .source = "data.jsonl:" + std::to_string(i + 1)});
    }
    const auto answers = run(records).value().answers;
    for (std::size_t i = 0; i < records.size(); i += 2)
      std::get<text::Pair>(records[i].content).completion = answers[i];
    return records;
  }

  GoldenRun run_{"llama"};
  text::ModelText text_ = load_text();
};

TEST_F(ExactMatch, AnAnswerCountsWhenItIsItsOwnRecordsReference) {
  const auto records = half_right();
  const auto report = run(records).value();
  ASSERT_EQ(report.matched.size(), records.size());
  for (std::size_t i = 0; i < records.size(); ++i)
    EXPECT_EQ(report.matched[i], i % 2 == 0 ? 1 : 0) << i << ": " << report.answers[i];
  EXPECT_DOUBLE_EQ(report.share(), 0.5);
}

TEST_F(ExactMatch, WorkersChangeNoAnswer) {
  const auto records = half_right();
  const auto expected = run(records).value();
  for (const int workers : {2, 5}) {
    const auto found = run(records, {.workers = workers}).value();
    EXPECT_EQ(found.answers, expected.answers);
    EXPECT_EQ(found.matched, expected.matched);
  }
}

TEST_F(ExactMatch, ARecordWithoutAReferenceIsRefusedByName) {
  auto records = half_right();
  records[20].content = text::PlainText{"only text"};
  const auto found = run(records);
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, ErrorCode::kUnsupported);
  EXPECT_EQ(found.error().where, "data.jsonl:21");
}

TEST_F(ExactMatch, EndsWhenAsked) {
  std::atomic<int> asked{0};
  const auto found = run(half_right(), {.workers = 2, .stopped = [&] { return ++asked > 4; }});
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, ErrorCode::kInterrupted);
}

class Regression : public ExactMatch {};

// The error named the place in a group of sixteen: "prompt 5".
TEST_F(Regression, APromptThatIsTooLongWasNotNamed) {
  auto records = half_right();
  std::get<text::Pair>(records[20].content).prompt = std::string(70, 'a');
  const auto found = run(records);
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, ErrorCode::kData);
  EXPECT_EQ(found.error().where, "data.jsonl:21");
  EXPECT_THAT(found.error().line(), HasSubstr("70 prompt tokens"));
}

}  // namespace
}  // namespace strata::evaluation

// The training by hand on tiny corpora, and against the BpeTrainer of the tokenizers library
// (tests/golden/tokenizer_train.py).
#include "text/bpe_trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "support/process.h"
#include "text/tokenizer.h"
#include "text/tokenizer_file.h"

namespace strata::text {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;

using Texts = std::vector<std::string>;

WordCounts counted(const Texts& documents) {
  auto counts = WordCounts::make().value();
  for (const auto& document : documents) counts.add(document);
  return counts;
}

TrainedBpe trained(const Texts& documents, const BpeTrainOptions& options = {}) {
  return train_bpe(counted(documents), options).value();
}

Error refusal(const Texts& documents, const BpeTrainOptions& options) {
  const auto done = train_bpe(counted(documents), options);
  return done ? Error{.what = "accepted"} : done.error();
}

TEST(BpeTrainer, MergesTheMostFrequentPairAgainAndAgain) {
  // l o and o w occur five times each; what is before the word joins last.
  const auto out = trained({"low low low lower lowest"});
  EXPECT_THAT(out.merges,
              ElementsAre(Pair("l", "o"), Pair("lo", "w"), Pair("Ġ", "low"), Pair("Ġlow", "e")));
  ASSERT_EQ(out.tokens.size(), 256u + 4u);
  EXPECT_EQ(out.tokens.back(), "Ġlowe");
}

TEST(BpeTrainer, AmongEquallyFrequentPairsTheSmallerIdsWin) {
  EXPECT_THAT(trained({"cd", "cd", "ab", "ab"}).merges,
              ElementsAre(Pair("a", "b"), Pair("c", "d")));
  EXPECT_THAT(trained({"ad", "ad", "ac", "ac"}).merges,
              ElementsAre(Pair("a", "c"), Pair("a", "d")));
  // By ids, not by letters: "aa", made first, has a larger id than any byte.
  EXPECT_THAT(trained({"aaq", "aaq", "aa", "yx", "yx"}).merges,
              ElementsAre(Pair("a", "a"), Pair("y", "x"), Pair("aa", "q")));
}

TEST(BpeTrainer, OverlappingPairsOfARunCountEach) {
  const BpeTrainOptions thrice{.min_frequency = 3};
  EXPECT_THAT(trained({"aaaa"}, thrice).merges, ElementsAre(Pair("a", "a")));
  EXPECT_THAT(trained({"aaa"}, thrice).merges, IsEmpty());
  // From the left: aa aa a, where aa aa and aa a occur once each.
  EXPECT_THAT(trained({"aaaaa"}, {.min_frequency = 1}).merges,
              ElementsAre(Pair("a", "a"), Pair("aa", "a"), Pair("aa", "aaa")));
}

TEST(BpeTrainer, PairsThatOccurTooSeldomAreLeft) {
  const Texts text{"abc abc abc xy xy"};
  EXPECT_THAT(trained(text, {.min_frequency = 4}).merges, IsEmpty());
  EXPECT_THAT(trained(text, {.min_frequency = 3}).merges,
              ElementsAre(Pair("a", "b"), Pair("ab", "c")));
  EXPECT_THAT(trained(text, {.min_frequency = 0}).merges,
              trained(text, {.min_frequency = 1}).merges);
}

TEST(BpeTrainer, TheVocabularyEndsAtTheSizeAskedFor) {
  const Texts text{"low low low lower lowest"};
  for (const std::size_t more : {0u, 1u, 3u}) {
    const auto out = trained(text, {.vocab_size = 257 + more, .special_tokens = {"<s>"}});
    EXPECT_EQ(out.tokens.size(), 257 + more);
    EXPECT_EQ(out.merges.size(), more);
  }
}

TEST(BpeTrainer, SpecialTokensComeFirstThenAllBytes) {
  const auto out = trained({"x"}, {.special_tokens = {"<b>", "<a>", "<b>"}});
  ASSERT_EQ(out.tokens.size(), 258u);
  EXPECT_THAT(Texts(out.tokens.begin(), out.tokens.begin() + 4),
              ElementsAre("<b>", "<a>", "!", "\""));
  EXPECT_EQ(out.tokens.back(), "Ń");  // the stand-in of the soft hyphen, the last code point
}

TEST(BpeTrainer, ASpecialTokenInTheTextIsTextThatMergesIntoIt) {
  const auto out = trained({"<> <> <>"}, {.special_tokens = {"<>"}});
  EXPECT_THAT(out.merges, ElementsAre(Pair("<", ">"), Pair("Ġ", "<>")));
  EXPECT_EQ(out.tokens.size(), 258u);
}

TEST(BpeTrainer, DocumentsMayComeInAnyOrder) {
  const Texts text{"some words", "other words", "some other", "and words and some"};
  const Texts turned(text.rbegin(), text.rend());
  EXPECT_EQ(trained(text).merges, trained(turned).merges);
  EXPECT_THAT(trained(text).merges, testing::SizeIs(testing::Gt(8u)));
}

TEST(BpeTrainer, RefusesWhatItCannotTrain) {
  const Error small =
      refusal({"text"}, {.vocab_size = 257, .special_tokens = {"<s>", "</s>", "<s>"}});
  EXPECT_EQ(small.code, ErrorCode::kUsage);
  EXPECT_THAT(small.line(), HasSubstr("at least 258"));
  EXPECT_EQ(refusal({"text"}, {.vocab_size = std::size_t{1} << 40}).code, ErrorCode::kUsage);
  EXPECT_EQ(refusal({"text"}, {.special_tokens = {""}}).code, ErrorCode::kUsage);
  EXPECT_EQ(refusal({"text"}, {.special_tokens = {"\xff"}}).code, ErrorCode::kUsage);
  EXPECT_EQ(refusal({"", ""}, {}).code, ErrorCode::kData);
}

TEST(BpeTrainer, StopsWhenAsked) {
  int asked = 0;
  const Error error = refusal({"low low low"}, {.stopped = [&] { return ++asked == 2; }});
  EXPECT_EQ(error.code, ErrorCode::kInterrupted);
  EXPECT_THAT(error.line(), HasSubstr("after 1 merges"));
}

class BpeTrainerGolden : public testing::TestWithParam<std::size_t> {
 protected:
  static std::filesystem::path folder() {
    return std::filesystem::path(STRATA_SOURCE_DIR) / "tests/golden/tokenizer_train";
  }
  static json cases() { return json::parse(support::read_file(folder() / "cases.json")); }
  static BpeTrainOptions options_of(const json& row) {
    return {.vocab_size = row["vocab_size"],
            .min_frequency = row["min_frequency"],
            .special_tokens = row["special_tokens"]};
  }
};

TEST_P(BpeTrainerGolden, MergesEqualTheLibrarys) {
  const json row = cases().at(GetParam());
  const auto options = options_of(row);
  const auto out = trained(row["documents"], options);
  json merges = json::array();
  for (const auto& [left, right] : out.merges) merges.push_back({left, right});
  EXPECT_EQ(merges, row["merges"]);
  EXPECT_GT(merges.size(), 3u);
  if (row.contains("file")) {
    EXPECT_EQ(tokenizer_json(out, options.special_tokens),
              support::read_file(folder() / row["file"].get<std::string>()));
  }
}

TEST_P(BpeTrainerGolden, TheReaderTakesWhatWasTrained) {
  const json row = cases().at(GetParam());
  const auto options = options_of(row);
  const Texts documents = row["documents"];
  const auto counts = counted(documents);
  const auto out = train_bpe(counts, options).value();
  const auto tokenizer =
      Tokenizer::parse(tokenizer_json(out, options.special_tokens), "new").value();
  EXPECT_EQ(tokenizer.vocab_size(), out.tokens.size());
  for (const auto& token : options.special_tokens)
    EXPECT_TRUE(tokenizer.is_special(tokenizer.token_to_id(token).value())) << token;
  std::uint64_t tokens = 0;
  for (const auto& document : documents) {
    const auto ids = tokenizer.encode(document, false).value();
    tokens += ids.size();
    // A special token that is a byte's stand-in decodes to that byte, in the library too.
    if (row["name"] == "special_in_text") continue;
    EXPECT_EQ(tokenizer.decode(ids, false), document);
  }
  // Special tokens in a text are cut out of it by the tokenizer, not by the training.
  if (row["name"] == "special_in_text") return;
  EXPECT_EQ(count_tokens(counts, out).value(), tokens);
}

INSTANTIATE_TEST_SUITE_P(Cases, BpeTrainerGolden, testing::Range(std::size_t{0}, std::size_t{10}));

TEST(BpeTrainerGoldenCases, AreAllTried) {
  const auto path = std::filesystem::path(STRATA_SOURCE_DIR) / "tests/golden/tokenizer_train";
  EXPECT_EQ(json::parse(support::read_file(path / "cases.json")).size(), 10u);
}

TEST(TokenizerFile, SaysWhatBeginsAndEndsATextAndSurvivesOddTokens) {
  const std::string odd = "a\"\\\n";
  const auto out = trained({"word"}, {.special_tokens = {odd}});
  const auto tokenizer = Tokenizer::parse(tokenizer_json(out, {odd}), "new").value();
  EXPECT_EQ(tokenizer.token_to_id(odd), 0);
  const json config = json::parse(tokenizer_config_json("<s>", odd));
  EXPECT_EQ(config["bos_token"], "<s>");
  EXPECT_EQ(config["eos_token"], odd);
}

}  // namespace
}  // namespace strata::text

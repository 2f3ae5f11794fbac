#include "text/word_counts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace strata::text {
namespace {

using testing::Pair;
using testing::UnorderedElementsAre;

WordCounts counted(std::string_view text, std::size_t window) {
  auto counts = WordCounts::make(window).value();
  counts.add(text);
  return counts;
}

TEST(WordCounts, AreTheWordsOfGpt2) {
  const auto counts = counted("We've 12 cats,  we'll 12\n\n", 1 << 20);
  EXPECT_THAT(counts.words(),
              UnorderedElementsAre(Pair("We", 1), Pair("'ve", 1), Pair(" 12", 2), Pair(" cats", 1),
                                   Pair(",", 1), Pair(" ", 1), Pair(" we", 1), Pair("'ll", 1),
                                   Pair("\n\n", 1)));
  EXPECT_EQ(counts.bytes(), 26u);
}

TEST(WordCounts, DocumentsDoNotRunIntoEachOther) {
  auto counts = WordCounts::make().value();
  for (const char* document : {"ab", "cd", "", "ab"}) counts.add(document);
  EXPECT_THAT(counts.words(), UnorderedElementsAre(Pair("ab", 2), Pair("cd", 1)));
}

// Cut anywhere: inside contractions, before the last space of a run, inside characters, in words
// longer than the window.
TEST(WordCounts, AreTheSameHoweverTheDocumentIsCut) {
  std::string text;
  for (const char* piece :
       {"we'll they've it's I'm 'tis  ", "a   b \n\n c\t\t\td", "\u3000\u3000x\u00a0 y",
        "don''t 'l 'v", "\u00e9t\u00e9 \u4f60\u597d\u4e16\u754c \U0001f600\U0001f600 ",
        "               ",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "12345678901234567890!!!???   \n"}) {
    text += piece;
  }
  const std::string thrice = text + text + text;
  const auto whole = counted(thrice, 1 << 20);
  EXPECT_GT(whole.words().size(), 30u);
  for (std::size_t window = 1; window < 120; ++window) {
    const auto cut = counted(thrice, window);
    EXPECT_EQ(cut.words(), whole.words()) << window;
    EXPECT_EQ(cut.bytes(), whole.bytes());
  }
}

}  // namespace
}  // namespace strata::text

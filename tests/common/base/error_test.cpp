#include "base/error.h"

#include <gtest/gtest.h>

#include "base/hash.h"
#include "base/result.h"

namespace strata {
namespace {

Result<int> reader(bool good) {
  if (good) return 7;
  return fail({.code = ErrorCode::kConfig,
               .what = "rank is 0",
               .where = "job.json: adapter.rank",
               .rule = "a rank is at least 1",
               .remedy = "use 8"});
}

TEST(Error, LineNamesPlaceFactRuleAndRemedyInThatOrder) {
  auto result = reader(false);
  ASSERT_FALSE(result);
  const auto passed = fail(std::move(result).error(), "reading the job");
  EXPECT_EQ(passed.value().line(),
            "reading the job: job.json: adapter.rank: rank is 0; a rank is at least 1; use 8");
  EXPECT_EQ(*reader(true), 7);
}

TEST(Error, ControlBytesFromFilesAreEscaped) {
  EXPECT_EQ(printable("a\nb\x1b[31m"), "a\\x0ab\\x1b[31m");
  EXPECT_EQ(printable("abcdef", 3), "abc...");
}

TEST(Error, LongTextsAreCutBetweenCharacters) {
  EXPECT_EQ(printable("ab\u00e9f", 3), "ab...");
  EXPECT_EQ(printable("ab\u00e9f", 4), "ab\u00e9...");
  EXPECT_EQ(printable("\U0001f600", 3), "...");
  EXPECT_EQ(printable("\x80\x80\x80\x80\x80\x80", 5), "\\x80\\x80...");  // no text at all
  EXPECT_EQ(printable("a\xff\xfe"), "a\\xff\\xfe");
  EXPECT_EQ(printable("\xc2\x9b"), "\\xc2\\x9b");           // one byte for ESC [
  EXPECT_EQ(printable("\xed\xa0\x80"), "\\xed\\xa0\\x80");  // half a surrogate pair
  EXPECT_EQ(printable("\xc0\xaf"), "\\xc0\\xaf");           // an overlong slash
  EXPECT_EQ(printable("\u20ac\U0001f600\u00e9"), "\u20ac\U0001f600\u00e9");
}

TEST(Error, ExitStatusesAreTheDocumentedOnes) {
  EXPECT_EQ(exit_status(ErrorCode::kUsage), 2);
  EXPECT_EQ(exit_status(ErrorCode::kConfig), 3);
  EXPECT_EQ(exit_status(ErrorCode::kBudget), 4);
  EXPECT_EQ(exit_status(ErrorCode::kQuorum), 5);
  EXPECT_EQ(exit_status(ErrorCode::kFormat), 7);
  EXPECT_EQ(exit_status(ErrorCode::kInternal), 70);
  EXPECT_EQ(exit_status(ErrorCode::kInterrupted), 75);
}

TEST(Hash, DigitsGiveTheHashBack) {
  const Sha256 hash = sha256(std::as_bytes(std::span("abc", 3)));
  EXPECT_EQ(unhex(hex(hash)), hash);
  std::string upper = hex(hash);
  upper[0] = 'B';
  EXPECT_FALSE(unhex(upper));
  EXPECT_FALSE(unhex(hex(hash) + "0"));
  EXPECT_FALSE(unhex(""));
}

TEST(Hash, MatchesTheStandardsTestVector) {
  Hasher hasher;
  hasher.add("a");
  hasher.add("bc");  // FIPS 180-4 example "abc"
  EXPECT_EQ(hex(hasher.finish()),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

}  // namespace
}  // namespace strata

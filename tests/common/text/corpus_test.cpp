#include "text/corpus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/process.h"

namespace strata::text {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

using Texts = std::vector<std::string>;
using Path = std::filesystem::path;

class CorpusTest : public testing::Test {
 protected:
  Path write(const std::string& name, const std::string& text) {
    Path path = folder_.path() / name;
    std::filesystem::create_directories(path.parent_path());
    support::write_file(path, text);
    return path;
  }

  Result<Texts> read(const std::vector<Path>& inputs, const FieldMap& fields = {}) {
    const auto files = find_corpus(*disk_, inputs);
    if (!files) return fail(files.error());
    Texts out;
    const auto report =
        read_corpus(*disk_, *files, fields, [&](std::string_view text) -> Result<void> {
          out.emplace_back(text);
          return {};
        });
    if (!report) return fail(report.error());
    report_ = *report;
    return out;
  }

  std::string refusal(const std::vector<Path>& inputs, ErrorCode code) {
    const auto texts = read(inputs);
    if (texts) return "accepted";
    EXPECT_EQ(texts.error().code, code);
    return texts.error().line();
  }

  support::ScratchFolder folder_;
  std::unique_ptr<sys::Disk> disk_ = sys::make_posix_disk();
  CorpusReport report_;
};

TEST_F(CorpusTest, FoldersAreReadInTheOrderOfTheirNames) {
  write("c/b.txt", "second\n");
  write("c/a/z.md", "first\r\n");
  write("c/d.jsonl", "{\"text\":\"third\"}\n{\"text\":\"fourth\"}\n");
  write("c/.hidden", "\xff");
  write("c/.git/config", "\xff");
  write("c/empty.txt", "");
  const Path single = write("x.log", "zeroth");
  EXPECT_THAT(read({single, folder_.path() / "c"}).value(),
              ElementsAre("zeroth", "first\r\n", "second\n", "third", "fourth"));
  EXPECT_EQ(report_.files, 5u);
  EXPECT_EQ(report_.documents, 5u);
  EXPECT_EQ(report_.bytes, 6u + 7u + 7u + 5u + 6u);
}

TEST_F(CorpusTest, ATextFileIsOneDocumentWithoutItsByteOrderMark) {
  EXPECT_THAT(read({write("a.txt", "\xEF\xBB\xBFone\n\ntwo")}).value(), ElementsAre("one\n\ntwo"));
}

TEST_F(CorpusTest, EveryTextOfARecordIsADocument) {
  const Path pairs = write("p.jsonl", R"({"prompt":"ask","completion":"answer","id":3})");
  const Path talk = write("t.json", R"([{"messages":[{"role":"user","content":"hi"},
                                        {"role":"assistant","content":""},
                                        {"role":"assistant","content":"ho"}]}])");
  const Path tasks = write("i.ndjson", R"({"instruction":"do","input":"it","output":"done"})");
  EXPECT_THAT(read({pairs, talk, tasks}).value(),
              ElementsAre("ask", "answer", "hi", "ho", "do", "it", "done"));
}

TEST_F(CorpusTest, FieldsNameTheRecordsKeys) {
  const Path path = write("a.JSONL", R"({"body":"this","text":"not this"})");
  EXPECT_THAT(read({path}, {{"text", "body"}}).value(), ElementsAre("this"));
}

TEST_F(CorpusTest, WhatIsNoUtf8IsRefusedWithItsPlace) {
  const Path path = write("a.txt", "one\ntwo\xff\n");
  EXPECT_THAT(refusal({path}, ErrorCode::kData),
              AllOf(HasSubstr("a.txt:2"), HasSubstr("byte 8 of the file, 0xFF")));
}

TEST_F(CorpusTest, WhatHasNoTextIsRefused) {
  EXPECT_THAT(refusal({write("a.jsonl", R"({"input_ids":[1,2]})")}, ErrorCode::kData),
              AllOf(HasSubstr("a.jsonl:1"), HasSubstr("not text")));
  EXPECT_THAT(refusal({write("b.jsonl", "{}")}, ErrorCode::kData), HasSubstr("b.jsonl:1"));
  std::filesystem::create_directories(folder_.path() / "none/.git");
  EXPECT_THAT(refusal({folder_.path() / "none"}, ErrorCode::kData), HasSubstr("has no file"));
  EXPECT_THAT(refusal({folder_.path() / "absent.txt"}, ErrorCode::kFileMissing),
              HasSubstr("absent.txt"));
}

TEST_F(CorpusTest, ALinkToAFolderAboveEndsTheSearch) {
  write("c/a.txt", "text");
  std::filesystem::create_directory_symlink(folder_.path() / "c", folder_.path() / "c/again");
  EXPECT_THAT(refusal({folder_.path() / "c"}, ErrorCode::kData),
              HasSubstr("more than 32 levels deep"));
}

TEST_F(CorpusTest, WhoeverTakesTheDocumentsMayEndIt) {
  const auto files = find_corpus(
      *disk_, std::vector<Path>{write("a.jsonl", "{\"text\":\"a\"}\n{\"text\":\"b\"}")});
  int seen = 0;
  const auto report = read_corpus(*disk_, *files, {}, [&](std::string_view) -> Result<void> {
    ++seen;
    return fail({.code = ErrorCode::kInterrupted, .what = "enough"});
  });
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().code, ErrorCode::kInterrupted);
  EXPECT_EQ(seen, 1);
}

}  // namespace
}  // namespace strata::text

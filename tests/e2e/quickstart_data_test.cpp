// configs/quickstart/prepare on a folder of made-up fortunes, and on the installed ones where there
// are any.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "support/process.h"
#include "text/record_reader.h"

namespace strata {
namespace {

namespace fs = std::filesystem;
using support::read_file;
using support::write_file;
using ::testing::HasSubstr;

const fs::path kScript = fs::path(STRATA_SOURCE_DIR) / "configs/quickstart/prepare";

support::Finished prepare(const fs::path& fortunes, const fs::path& out) {
  return support::run_program(
      {"/usr/bin/env", "FORTUNES_DIR=" + fortunes.string(), kScript.string(), out.string()});
}

// Every category the script names, each with twelve entries of its own.
void write_fortunes(const fs::path& folder) {
  fs::create_directories(folder);
  const std::string script = read_file(kScript);
  const std::string tables =
      script.substr(script.find("clients=("), script.find("files=()") - script.find("clients=("));
  const std::regex word("[a-z][a-z-]+(?=[ \"\n)])");
  for (std::sregex_iterator it(tables.begin(), tables.end(), word), end; it != end; ++it) {
    std::string content;
    for (int i = 0; i < 12; ++i)
      content += "Entry " + std::to_string(i) + " about nothing but " + it->str() + ".\n%\n";
    write_file(folder / it->str(), content);
  }
}

std::vector<text::Record> records(const fs::path& file) {
  auto read = text::read_records(*sys::make_posix_disk(), file);
  EXPECT_TRUE(read) << read.error().line();
  return read ? std::move(read->records) : std::vector<text::Record>{};
}

std::string text_of(const text::Record& record) {
  return std::get<text::PlainText>(record.content).text;
}

// Text -> file, over everything the script wrote; fails on a text that is there twice.
std::map<std::string, std::string> texts_of(const fs::path& out) {
  std::map<std::string, std::string> found;
  for (const auto& entry : fs::recursive_directory_iterator(out)) {
    if (!entry.is_regular_file()) continue;
    for (const auto& record : records(entry.path())) {
      EXPECT_TRUE(found.emplace(text_of(record), entry.path().filename()).second)
          << text_of(record);
    }
  }
  return found;
}

class QuickstartData : public ::testing::Test {
 protected:
  void SetUp() override { write_fortunes(fortunes()); }
  [[nodiscard]] fs::path fortunes() const { return folder_.path() / "fortunes"; }
  [[nodiscard]] fs::path out() const { return folder_.path() / "out"; }
  support::ScratchFolder folder_;
};

TEST_F(QuickstartData, GivesEachClientItsCategoriesAndHoldsOutEveryTenthEntry) {
  ASSERT_EQ(prepare(fortunes(), out()).status, 0);
  const auto unix_records = records(out() / "clients/unix.jsonl");
  EXPECT_EQ(unix_records.size(), 3u * 11);  // perl, linux, debian
  EXPECT_EQ(unix_records[0].field("category"), "perl");
  EXPECT_EQ(unix_records[0].field("client"), "unix");
  const auto clients =
      std::distance(fs::directory_iterator(out() / "clients"), fs::directory_iterator());
  EXPECT_GE(clients, 4);
  std::set<std::string> client_categories;
  for (const auto& record : records(out() / "held_out.jsonl"))
    client_categories.emplace(*record.field("category"));
  for (const auto& record : records(out() / "base.jsonl")) {
    EXPECT_FALSE(client_categories.contains(std::string(*record.field("category"))));
  }
}

TEST_F(QuickstartData, KeepsBackslashesQuotesAndLinesAndTidiesSpace) {
  write_file(fortunes() / "zippy",
             "A \"quoted\" \\n back\\\\slash &\n\t\tindented  twice\t\n\n\nand on  \n%\n");
  ASSERT_EQ(prepare(fortunes(), out()).status, 0);
  EXPECT_EQ(text_of(records(out() / "clients/surreal.jsonl")[0]),
            "A \"quoted\" \\n back\\\\slash &\nindented twice\nand on");
}

TEST_F(QuickstartData, LeavesOutShortLongControlAndRepeatedEntries) {
  write_file(fortunes() / "zippy",
             "Too short\n%\n" + std::string(700, 'x') +
                 "\n%\nAn overstrike of _\bb here, long enough\n%\n" +
                 "Entry 3, about nothing; but PERL.\n%\nThe only one that is kept here");
  ASSERT_EQ(prepare(fortunes(), out()).status, 0);
  const auto kept = records(out() / "clients/surreal.jsonl");
  ASSERT_EQ(kept.size(), 1u);
  EXPECT_EQ(text_of(kept[0]), "The only one that is kept here");
}

TEST_F(QuickstartData, MakesTheSameBytesAgain) {
  ASSERT_EQ(prepare(fortunes(), out()).status, 0);
  const std::string first =
      read_file(out() / "held_out.jsonl") + read_file(out() / "clients/stage.jsonl");
  ASSERT_EQ(prepare(fortunes(), out()).status, 0);
  EXPECT_EQ(read_file(out() / "held_out.jsonl") + read_file(out() / "clients/stage.jsonl"), first);
}

TEST_F(QuickstartData, NamesThePackageToInstallAndWritesNothing) {
  fs::remove(fortunes() / "perl");
  const auto finished = prepare(fortunes(), out());
  EXPECT_EQ(finished.status, 7);
  EXPECT_THAT(finished.err, HasSubstr("package fortunes"));
  EXPECT_FALSE(fs::exists(out()));
}

TEST(QuickstartDataInstalled, EachClientHasEnoughRecordsAndNoTextIsInTwoFiles) {
  const fs::path installed = "/usr/share/games/fortunes";
  if (!fs::exists(installed / "songs-poems"))
    GTEST_SKIP() << "the Debian package fortunes is not installed";
  const support::ScratchFolder folder;
  ASSERT_EQ(prepare(installed, folder.path() / "out").status, 0);
  texts_of(folder.path() / "out");
  for (const auto& entry : fs::directory_iterator(folder.path() / "out/clients")) {
    const auto count = records(entry.path()).size();
    EXPECT_GE(count, 150u) << entry.path();
    EXPECT_LE(count, 640u) << entry.path();
  }
  EXPECT_GE(records(folder.path() / "out/base.jsonl").size(), 5000u);
}

// The tokenizers library wrote the base model's tokenizer.json from this corpus.
TEST(QuickstartDataInstalled, TheBaseCorpusGivesTheBaseTokenizerAgain) {
  const fs::path installed = "/usr/share/games/fortunes";
  if (!fs::exists(installed / "songs-poems"))
    GTEST_SKIP() << "the Debian package fortunes is not installed";
  const support::ScratchFolder folder;
  ASSERT_EQ(prepare(installed, folder.path() / "data").status, 0);
  const fs::path corpus = folder.path() / "data/base.jsonl", out = folder.path() / "out";
  if (fs::file_size(corpus) != 1265399) GTEST_SKIP() << "another version of the package fortunes";
  const auto done =
      support::run_program({STRATA_BINARY, "tokenizer", "train", corpus.string(), "--vocab-size",
                            "1024", "--eos-token", "<|end|>", "-o", out.string()});
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_TRUE(read_file(out / "tokenizer.json") ==
              read_file(fs::path(STRATA_SOURCE_DIR) / "configs/quickstart/base/tokenizer.json"));
}

}  // namespace
}  // namespace strata

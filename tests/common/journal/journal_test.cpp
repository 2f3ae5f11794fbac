// A journal gives back what was synced, cuts what a crash tore, and refuses everything else.
#include "journal/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/process.h"

namespace strata::journal {
namespace {

using support::read_file;
using support::ScratchFolder;
using support::write_file;
using testing::HasSubstr;

constexpr std::uint16_t kKind = 7;

class JournalTest : public testing::Test {
 protected:
  ScratchFolder scratch_;
  std::unique_ptr<sys::Disk> disk_ = sys::make_posix_disk();
  std::filesystem::path path_ = scratch_.path() / "000001.log";

  Result<Journal> open(std::vector<Record>& records) {
    return Journal::open(*disk_, path_, kKind, records);
  }
  std::vector<std::string> texts() {
    std::vector<Record> records;
    auto journal = open(records);
    if (!journal) throw std::runtime_error(journal.error().line());
    std::vector<std::string> out;
    out.reserve(records.size());
    for (const auto& r : records) out.emplace_back(text_of(r.payload));
    return out;
  }
  Error error() {
    std::vector<Record> records;
    auto journal = open(records);
    return journal ? throw std::logic_error("no error") : journal.error();
  }
  // Three records: the first synced before the others were written, these synced together.
  void write_three() {
    std::vector<Record> records;
    auto journal = open(records).value();
    ASSERT_TRUE(journal.append(1, bytes_of("one")));
    ASSERT_TRUE(journal.sync());
    ASSERT_TRUE(journal.append(2, bytes_of("two")));
    ASSERT_TRUE(journal.append(3, bytes_of("three")));
    ASSERT_TRUE(journal.sync());
  }
};

using testing::ElementsAre;
using testing::IsEmpty;

TEST_F(JournalTest, GivesBackWhatWasWritten) {
  write_three();
  std::vector<Record> records;
  auto journal = open(records);
  ASSERT_TRUE(journal) << journal.error().line();
  ASSERT_EQ(records.size(), 3u);
  EXPECT_EQ(records[2].type, 3);
  EXPECT_EQ(records[2].sequence, 2u);
  EXPECT_EQ(text_of(records[2].payload), "three");
  EXPECT_EQ(journal->cut_bytes(), 0u);
  ASSERT_TRUE(journal->append(4, bytes_of("four")));
  ASSERT_TRUE(journal->sync());
  EXPECT_THAT(texts(), ElementsAre("one", "two", "three", "four"));
}

TEST_F(JournalTest, TheHeadNamesEverythingBefore) {
  write_three();
  std::vector<Record> records;
  const auto head = open(records)->head();
  write_file(path_, "");
  write_three();
  EXPECT_EQ(open(records)->head(), head);
}

TEST_F(JournalTest, EveryCutLosesOnlyWhatItTouches) {
  write_three();
  const std::string whole = read_file(path_);
  const std::size_t first = kFileHeaderBytes + kRecordOverhead + 3;
  const std::size_t second = first + kRecordOverhead + 3;
  for (std::size_t n = 0; n < whole.size(); ++n) {
    write_file(path_, whole.substr(0, n));
    const std::size_t kept = n >= second ? 2 : n >= first ? 1 : 0;
    EXPECT_EQ(texts().size(), kept) << n << " bytes";
    EXPECT_EQ(texts().size(), kept) << "a second time";
  }
}

TEST_F(JournalTest, ATornEndIsCutAndWrittenOver) {
  write_three();
  write_file(path_, read_file(path_) + std::string(100, '\0'));
  std::vector<Record> records;
  {
    auto journal = open(records);
    ASSERT_TRUE(journal);
    EXPECT_EQ(journal->cut_bytes(), 100u);
    ASSERT_TRUE(journal->append(4, bytes_of("four")));
    ASSERT_TRUE(journal->sync());
  }
  EXPECT_THAT(texts(), ElementsAre("one", "two", "three", "four"));
}

TEST_F(JournalTest, DamageToWhatWasPromisedIsRefusedWithItsPlace) {
  write_three();
  std::string bytes = read_file(path_);
  bytes[kFileHeaderBytes + 41] ^= 1;  // in the first payload; the second record knows it was sure
  write_file(path_, bytes);
  const Error e = error();
  EXPECT_EQ(e.code, ErrorCode::kDamaged);
  EXPECT_THAT(e.line(), HasSubstr("byte 16: record 0 is broken"));
}

TEST_F(JournalTest, RecordsOfOneFlushMayBeTornInAnyOrder) {
  write_three();
  std::string bytes = read_file(path_);
  // The second record did not reach the disk, the third, of the same flush, did: a crash, no
  // damage.
  bytes[kFileHeaderBytes + kRecordOverhead + 3 + 41] ^= 1;
  write_file(path_, bytes);
  EXPECT_THAT(texts(), ElementsAre("one"));
}

TEST_F(JournalTest, ARecordFromElsewhereDoesNotFollow) {
  write_three();
  const std::string bytes = read_file(path_);
  const std::string first = bytes.substr(0, kFileHeaderBytes + kRecordOverhead + 3);
  const std::string third = bytes.substr(first.size() + kRecordOverhead + 3);
  write_file(path_, first + third);
  EXPECT_THAT(error().line(), HasSubstr("does not follow"));
}

TEST_F(JournalTest, OtherFilesAreNotTakenForJournals) {
  write_file(path_, "{\"a\": 1}");
  EXPECT_THAT(error().line(), HasSubstr("is not a journal"));
  write_file(path_, std::string(1000, 'x'));
  EXPECT_THAT(error().line(), HasSubstr("is not a journal"));
  write_file(path_, "");
  EXPECT_THAT(texts(), IsEmpty());
  std::vector<Record> records;
  EXPECT_THAT(Journal::open(*disk_, path_, kKind + 1, records).error().line(),
              HasSubstr("something else"));
}

TEST_F(JournalTest, ANewerFormatIsNamed) {
  write_three();
  std::string bytes = read_file(path_);
  bytes[8] = 9;
  write_file(path_, bytes);
  EXPECT_EQ(error().code, ErrorCode::kUnsupported);
  EXPECT_THAT(error().line(), HasSubstr("format 9"));
}

TEST_F(JournalTest, IsReadBesideItsWriter) {
  std::vector<Record> records;
  auto journal = open(records).value();
  ASSERT_TRUE(journal.append(1, bytes_of("one")));
  ASSERT_TRUE(journal.sync());
  auto read = Journal::read(*disk_, path_, kKind);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->size(), 1u);
}

}  // namespace
}  // namespace strata::journal

// What the rest of the program relies on when it writes: a file is there whole or not at all, and a
// refusal of the operating system has the right code.
#include "sys/disk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "support/file_size_limit.h"
#include "support/process.h"
#include "sys/temporary_files.h"

namespace strata::sys {
namespace {

namespace fs = std::filesystem;
using support::FileSizeLimit;
using support::read_file;
using support::ScratchFolder;
using support::write_file;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::UnorderedElementsAre;

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> out;
  for (const auto& entry : fs::directory_iterator(folder))
    out.push_back(entry.path().filename().string());
  return out;
}

template <class T>
ErrorCode code_of(const Result<T>& result) {
  return result ? throw std::logic_error("no error") : result.error().code;
}

class PosixDisk : public testing::Test {
 protected:
  ScratchFolder scratch_;
  std::unique_ptr<Disk> disk_ = make_posix_disk();
  [[nodiscard]] fs::path at(const std::string& name) const { return scratch_.path() / name; }
};

TEST_F(PosixDisk, WriteAtomicPutsAllPiecesInPlaceAndLeavesNothingElse) {
  const auto written = disk_->write_atomic(at("file"), [](FileWriter& out) -> Result<void> {
    for (const char* piece : {"one ", "", "two"}) {
      if (auto ok = out.write(bytes_of(piece)); !ok) return ok;
    }
    return {};
  });
  ASSERT_TRUE(written) << written.error().line();
  EXPECT_EQ(read_file(at("file")), "one two");
  EXPECT_THAT(names_in(scratch_.path()), ElementsAre("file"));
}

TEST_F(PosixDisk, WriteAtomicReplacesAnEarlierFile) {
  write_file(at("file"), "a longer earlier text");
  ASSERT_TRUE(disk_->write_atomic(at("file"), "short"));
  EXPECT_EQ(read_file(at("file")), "short");
}

TEST_F(PosixDisk, AFileBeingWrittenIsNotSeenUnderItsNameBeforeItIsWhole) {
  write_file(at("file"), "old");
  ASSERT_TRUE(disk_->write_atomic(at("file"), [&](FileWriter& out) -> Result<void> {
    auto ok = out.write(bytes_of("new"));
    EXPECT_EQ(read_file(at("file")), "old");
    return ok;
  }));
  EXPECT_EQ(read_file(at("file")), "new");
}

TEST_F(PosixDisk, AProducerThatFailsLeavesTheOldFileAndNoTemporary) {
  write_file(at("file"), "old");
  const auto written = disk_->write_atomic(at("file"), [](FileWriter& out) -> Result<void> {
    if (auto ok = out.write(bytes_of("half of the n")); !ok) return ok;
    return fail({.code = ErrorCode::kData, .what = "the rest is wrong"});
  });
  EXPECT_EQ(code_of(written), ErrorCode::kData);
  EXPECT_EQ(read_file(at("file")), "old");
  EXPECT_THAT(names_in(scratch_.path()), ElementsAre("file"));
}

TEST_F(PosixDisk, AProducerThatFailsLeavesNoFileWhereNoneWas) {
  EXPECT_FALSE(disk_->write_atomic(at("file"), [](FileWriter&) -> Result<void> {
    return fail({.code = ErrorCode::kData, .what = "nothing to write"});
  }));
  EXPECT_THAT(names_in(scratch_.path()), IsEmpty());
}

TEST_F(PosixDisk, AWriteCutShortBySystemLeavesTheOldFileAndNoTemporary) {
  write_file(at("file"), "old");
  const std::string large(100000, 'x');
  const auto written = [&] {
    const FileSizeLimit limit(4096);
    return disk_->write_atomic(at("file"), large);
  }();
  EXPECT_EQ(code_of(written), ErrorCode::kIo);
  EXPECT_EQ(written.error().where, at("file")) << "not the temporary, which is gone";
  EXPECT_EQ(read_file(at("file")), "old");
  EXPECT_THAT(names_in(scratch_.path()), ElementsAre("file"));
}

// As of a process that was killed: this one only looks at what is left.
TEST_F(PosixDisk, WhatAKilledWriterLeftIsRemovedAndNothingElse) {
  for (const char* name : {"file", "file.tmp.12", "other.tmp.345", ".tmp.1", "a.tmp.x", "b.tmp."})
    write_file(at(name), "half");
  ASSERT_TRUE(remove_temporaries(*disk_, scratch_.path(), "file"));
  EXPECT_THAT(names_in(scratch_.path()),
              UnorderedElementsAre("file", "other.tmp.345", ".tmp.1", "a.tmp.x", "b.tmp."));
  ASSERT_TRUE(remove_temporaries(*disk_, scratch_.path()));
  EXPECT_THAT(names_in(scratch_.path()),
              UnorderedElementsAre("file", ".tmp.1", "a.tmp.x", "b.tmp."));
  EXPECT_TRUE(remove_temporaries(*disk_, at("absent")));
  // It is so called while it is written.
  EXPECT_TRUE(disk_->write_atomic(at("file"), [&](FileWriter&) -> Result<void> {
    EXPECT_TRUE(fs::exists(temporary_of(at("file"), ::getpid())));
    return {};
  }));
}

TEST_F(PosixDisk, AFullDiskHasItsOwnCodeAndARemedy) {
  if (!fs::is_character_file("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  const auto written = disk_->append("/dev/full", "text");
  EXPECT_EQ(code_of(written), ErrorCode::kDiskFull);
  EXPECT_THAT(written.error().remedy, HasSubstr("space"));
}

TEST_F(PosixDisk, AFileCannotTakeTheNameOfAFolderWithSomethingInIt) {
  write_file(at("folder/inner"), "kept");
  EXPECT_EQ(code_of(disk_->write_atomic(at("folder"), "text")), ErrorCode::kIo);
  EXPECT_THAT(names_in(scratch_.path()), ElementsAre("folder"));
  EXPECT_EQ(read_file(at("folder/inner")), "kept");
}

TEST_F(PosixDisk, ListGivesNamesInOrder) {
  for (const char* name : {"b", "a10", "a9", "B", ".hidden", "c/inner"}) write_file(at(name), "");
  const auto names = disk_->list(scratch_.path());
  ASSERT_TRUE(names);
  EXPECT_THAT(*names, ElementsAre(".hidden", "B", "a10", "a9", "b", "c"));
}

TEST_F(PosixDisk, AppendAddsAtTheEndAndStartsAFileThatIsAbsent) {
  ASSERT_TRUE(disk_->append(at("log"), "one\n"));
  ASSERT_TRUE(disk_->append(at("log"), "two\n"));
  EXPECT_EQ(read_file(at("log")), "one\ntwo\n");
}

TEST_F(PosixDisk, ReadingGivesTheBytesAsTheyAre) {
  const std::string bytes("\0\xff\r\n\x1a end", 9);
  write_file(at("file"), bytes);
  EXPECT_EQ(disk_->read_text(at("file")).value(), bytes);
  write_file(at("empty"), "");
  EXPECT_EQ(disk_->read_text(at("empty")).value(), "");
}

TEST_F(PosixDisk, AMappingOutlivesTheFilesName) {
  write_file(at("file"), "mapped");
  const auto mapped = disk_->map(at("file"));
  ASSERT_TRUE(mapped);
  ASSERT_TRUE(disk_->remove_all(at("file")));
  const auto bytes = (*mapped)->bytes();
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()), "mapped");
}

TEST_F(PosixDisk, WhatIsAbsentIsMissingByName) {
  EXPECT_FALSE(disk_->exists(at("absent")));
  EXPECT_FALSE(disk_->is_directory(at("absent")));
  EXPECT_EQ(code_of(disk_->list(at("absent"))), ErrorCode::kFileMissing);
  EXPECT_EQ(code_of(disk_->read_text(at("absent"))), ErrorCode::kFileMissing);
  EXPECT_EQ(code_of(disk_->map(at("absent"))), ErrorCode::kFileMissing);
  EXPECT_EQ(code_of(disk_->rename(at("absent"), at("other"))), ErrorCode::kFileMissing);
  EXPECT_EQ(code_of(disk_->write_atomic(at("absent/file"), "text")), ErrorCode::kFileMissing);
  EXPECT_EQ(code_of(disk_->append(at("absent/file"), "text")), ErrorCode::kFileMissing);
  EXPECT_THAT(disk_->read_text(at("absent")).error().where, HasSubstr("absent"));
}

TEST_F(PosixDisk, AFolderIsNotReadAsAFile) {
  EXPECT_TRUE(disk_->is_directory(scratch_.path()));
  EXPECT_EQ(code_of(disk_->map(scratch_.path())), ErrorCode::kIo);
}

TEST_F(PosixDisk, RemoveAllTakesWholeFoldersAndIsContentWithNothing) {
  write_file(at("folder/inner/file"), "text");
  EXPECT_TRUE(disk_->remove_all(at("folder")));
  EXPECT_THAT(names_in(scratch_.path()), IsEmpty());
  EXPECT_TRUE(disk_->remove_all(at("folder")));
}

TEST_F(PosixDisk, RenameMovesAWholeFolder) {
  write_file(at("from/file"), "text");
  ASSERT_TRUE(disk_->rename(at("from"), at("to")));
  EXPECT_THAT(names_in(scratch_.path()), ElementsAre("to"));
  EXPECT_EQ(read_file(at("to/file")), "text");
}

TEST_F(PosixDisk, CreateDirectoriesMakesParentsAndAcceptsWhatIsThere) {
  ASSERT_TRUE(disk_->create_directories(at("a/b/c")));
  EXPECT_TRUE(disk_->is_directory(at("a/b/c")));
  EXPECT_TRUE(disk_->create_directories(at("a/b")));
  write_file(at("file"), "");
  EXPECT_FALSE(disk_->create_directories(at("file/below")));
}

TEST_F(PosixDisk, ThreadsMayWriteDifferentFilesOfOneFolder) {
  {
    std::vector<std::jthread> threads;
    threads.reserve(4);
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        const std::string name = "file" + std::to_string(t);
        for (int i = 0; i < 10; ++i)
          EXPECT_TRUE(disk_->write_atomic(at(name), name + " " + std::to_string(i)));
      });
    }
  }
  for (int t = 0; t < 4; ++t) {
    const std::string name = "file" + std::to_string(t);
    EXPECT_EQ(read_file(at(name)), name + " 9");
  }
  EXPECT_EQ(names_in(scratch_.path()).size(), 4u);
}

TEST_F(PosixDisk, AReleasedMappingCanBeReadAgain) {
  const std::string text(100000, 'x');
  ASSERT_TRUE(disk_->write_atomic(at("large"), text));
  const auto file = disk_->map(at("large")).value();
  const auto same = [&] {
    return std::all_of(file->bytes().begin(), file->bytes().end(),
                       [](std::byte b) { return b == std::byte{'x'}; });
  };
  EXPECT_TRUE(same());
  file->release(file->bytes());
  file->release(file->bytes().subspan(7, 20));
  EXPECT_TRUE(same());
}

TEST_F(PosixDisk, ARandomFileKeepsWhatWasWrittenAnywhere) {
  {
    auto file = disk_->open(at("journal"));
    ASSERT_TRUE(file) << file.error().line();
    ASSERT_TRUE((*file)->write(3, bytes_of("def")));
    ASSERT_TRUE((*file)->write(0, bytes_of("abc")));
    ASSERT_TRUE((*file)->sync());
    EXPECT_EQ((*file)->size().value(), 6u);
  }
  auto again = disk_->open(at("journal"));
  ASSERT_TRUE(again);
  ASSERT_TRUE((*again)->resize(4));
  EXPECT_EQ(read_file(at("journal")), "abcd");
  std::string two(2, ' ');
  ASSERT_TRUE((*again)->read(2, std::as_writable_bytes(std::span(two))));
  EXPECT_EQ(two, "cd");
  EXPECT_EQ(code_of((*again)->read(3, std::as_writable_bytes(std::span(two)))), ErrorCode::kIo);
}

TEST_F(PosixDisk, ARandomFileSaysThatTheDiskRefuses) {
  auto file = disk_->open(at("journal"));
  ASSERT_TRUE(file);
  const FileSizeLimit limit(16);
  EXPECT_TRUE((*file)->write(0, bytes_of("0123456789abcdef")));
  EXPECT_EQ(code_of((*file)->write(16, bytes_of("g"))), ErrorCode::kIo);
}

TEST_F(PosixDisk, ARandomFileIsNotReachedThroughALink) {
  write_file(at("target"), "x");
  fs::create_symlink(at("target"), at("link"));
  EXPECT_FALSE(disk_->open(at("link")));
}

TEST_F(PosixDisk, ALockIsHeldOnceAndNamesItsHolder) {
  auto first = disk_->lock(at("lock"));
  ASSERT_TRUE(first) << first.error().line();
  auto second = disk_->lock(at("lock"));
  EXPECT_EQ(code_of(second), ErrorCode::kLocked);
  EXPECT_THAT(second.error().line(), HasSubstr("process " + std::to_string(::getpid())));
  first->reset();
  EXPECT_TRUE(disk_->lock(at("lock")));
}

TEST_F(PosixDisk, APrivateFolderIsForItsOwnerOnly) {
  ASSERT_TRUE(disk_->create_private_directory(at("a/b")));
  EXPECT_EQ(fs::status(at("a/b")).permissions(), fs::perms::owner_all);
  EXPECT_TRUE(disk_->create_private_directory(at("a/b"))) << "there already";
}

}  // namespace
}  // namespace strata::sys

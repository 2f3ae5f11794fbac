// What a coordinator remembers of its clients' ledgers: over restarts, beside other coordinators,
// and when the file is not what it was or cannot be written.
#include "cli/ledger_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/process.h"

namespace strata::cli {
namespace {

using protocol::LedgerMark;

LedgerMark mark(int ledger, std::uint64_t records) {
  LedgerMark out{.records = records};
  out.ledger.fill(static_cast<std::byte>(ledger));
  out.head.fill(static_cast<std::byte>(records));
  return out;
}

class LedgerMemoryTest : public testing::Test {
 protected:
  std::unique_ptr<coordinator::LedgerMemory> open() {
    return open_ledger_memory(*disk_, file_).value();
  }
  support::ScratchFolder scratch_;
  std::filesystem::path file_ = scratch_.path() / "ledgers-seen.json";
  std::unique_ptr<sys::Disk> disk_ = sys::make_posix_disk();
};

TEST_F(LedgerMemoryTest, KeepsTheFarthestMarkOfEachLedgerOverRestarts) {
  {
    auto memory = open();
    EXPECT_EQ(memory->of("anna", mark(1, 0).ledger), LedgerMark{});
    ASSERT_TRUE(memory->keep("anna", mark(1, 5)));
    ASSERT_TRUE(memory->keep("anna", mark(1, 3)));
    ASSERT_TRUE(memory->keep("anna", mark(2, 1)));
  }
  const auto memory = open();
  EXPECT_EQ(memory->of("anna", mark(1, 0).ledger), mark(1, 5));
  EXPECT_EQ(memory->of("anna", mark(2, 0).ledger), mark(2, 1));
  EXPECT_EQ(memory->of("berta", mark(1, 0).ledger), LedgerMark{});
}

TEST_F(LedgerMemoryTest, KnowsALedgerThatIsNotTheOneItSaw) {
  auto memory = open();
  EXPECT_FALSE(memory->knows_another("anna", mark(1, 0).ledger));
  ASSERT_TRUE(memory->keep("anna", mark(1, 5)));
  EXPECT_FALSE(memory->knows_another("anna", mark(1, 0).ledger));
  EXPECT_TRUE(memory->knows_another("anna", mark(2, 0).ledger));
}

TEST_F(LedgerMemoryTest, CoordinatorsBesideEachOtherEraseNothing) {
  auto one = open(), other = open();
  ASSERT_TRUE(one->keep("anna", mark(1, 5)));
  ASSERT_TRUE(other->keep("berta", mark(2, 7)));
  ASSERT_TRUE(one->keep("carla", mark(3, 9)));
  const auto after = open();
  EXPECT_EQ(after->of("anna", mark(1, 0).ledger), mark(1, 5));
  EXPECT_EQ(after->of("berta", mark(2, 0).ledger), mark(2, 7));
  EXPECT_EQ(after->of("carla", mark(3, 0).ledger), mark(3, 9));
}

TEST_F(LedgerMemoryTest, AClientThatShowsManyLedgersFillsNothing) {
  auto memory = open();
  for (int ledger = 1; ledger <= 32; ++ledger) ASSERT_TRUE(memory->keep("anna", mark(ledger, 1)));
  const auto refused = memory->keep("anna", mark(33, 1));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().line(), testing::HasSubstr("client anna has shown 32 ledgers"));
  EXPECT_TRUE(memory->keep("anna", mark(32, 2)));
  EXPECT_TRUE(memory->keep("berta", mark(33, 1)));
}

// What could not be written was not kept: the next try writes it.
TEST_F(LedgerMemoryTest, AMarkThatWasNotWrittenIsNotKept) {
  auto memory = open();
  std::filesystem::create_directories(file_);  // nothing can be put in its place
  support::write_file(file_ / "in the way", "");
  EXPECT_FALSE(memory->keep("anna", mark(1, 5)));
  std::filesystem::remove_all(file_);
  EXPECT_TRUE(memory->keep("anna", mark(1, 5)));
  EXPECT_EQ(open()->of("anna", mark(1, 0).ledger), mark(1, 5));
}

TEST_F(LedgerMemoryTest, AFileThatIsNoneIsRefusedNamingIt) {
  for (const char* text : {"", "{}", R"({"format": 2, "ledgers": []})",
                           R"({"format": 1, "ledgers": [{"client": "anna", "ledger": "x"}]})"}) {
    support::write_file(file_, text);
    const auto refused = open_ledger_memory(*disk_, file_);
    ASSERT_FALSE(refused) << text;
    EXPECT_EQ(refused.error().code, ErrorCode::kDamaged);
    EXPECT_THAT(refused.error().line(), testing::HasSubstr("ledgers-seen.json"));
  }
}

}  // namespace
}  // namespace strata::cli

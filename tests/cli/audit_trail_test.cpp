// What a coordinator writes down for its auditors: kept across restarts, and changed by nobody.
#include "cli/audit_trail.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "sim/disk.h"
#include "support/process.h"

namespace strata::cli {
namespace {

using nlohmann::json;
using testing::HasSubstr;

class AuditTrailTest : public testing::Test {
 protected:
  void tell(std::initializer_list<const char*> clients) {
    AuditTrail trail(*disk_, *clock_, path_);
    ASSERT_TRUE(trail.open());
    for (const char* client : clients)
      trail.on({.name = "client_joined", .fields = {{"client", std::string(client)}}});
    EXPECT_TRUE(trail.status());
  }
  [[nodiscard]] Result<AuditRecords> read() const { return read_audit_trail(*disk_, path_); }

  support::ScratchFolder scratch_;
  std::unique_ptr<sys::Disk> disk_ = sys::make_posix_disk();
  std::unique_ptr<sys::Clock> clock_ = sys::make_posix_clock();
  std::filesystem::path path_ = scratch_.path() / kAuditFile;
};

TEST_F(AuditTrailTest, GoesOnBehindWhatWasThere) {
  tell({"a", "b"});
  const auto before = read();
  ASSERT_TRUE(before) << before.error().line();
  tell({"c"});
  const auto after = read();
  ASSERT_TRUE(after);
  ASSERT_EQ(after->lines.size(), 3u);
  EXPECT_EQ(json::parse(after->lines[2]).at("client"), "c");
  EXPECT_NE(hex(after->head), hex(before->head));
}

TEST_F(AuditTrailTest, KeepsWhoDidWhatAndNotHowTrainingWent) {
  AuditTrail trail(*disk_, *clock_, path_);
  trail.on(
      {.name = "client_joined", .fields = {{"client", std::string("early")}}});  // not open yet
  ASSERT_TRUE(trail.open());
  trail.on({.name = "step", .fields = {{"loss", 1.5}}});
  trail.on({.name = "evaluation", .fields = {{"loss", 1.5}}});
  trail.on(
      {.name = "client_round",
       .fields = {{"round", std::int64_t{1}}, {"client", std::string("a")}, {"loss_after", 1.5}}});
  const auto records = read();
  ASSERT_TRUE(records);
  ASSERT_EQ(records->lines.size(), 1u);
  EXPECT_THAT(records->lines[0], HasSubstr("\"client\":\"a\""));
  EXPECT_THAT(records->lines[0], testing::Not(HasSubstr("loss")));
}

TEST_F(AuditTrailTest, AChangedRecordIsFound) {
  tell({"mallory", "b", "c"});
  std::string bytes = support::read_file(path_);
  const auto at = bytes.find("mallory");
  ASSERT_NE(at, std::string::npos);
  bytes.replace(at, 7, "malorie");
  support::write_file(path_, bytes);
  const auto records = read();
  ASSERT_FALSE(records);
  EXPECT_EQ(records.error().code, ErrorCode::kDamaged);
  AuditTrail trail(*disk_, *clock_, path_);
  EXPECT_EQ(trail.open().error().code, ErrorCode::kDamaged) << "nothing is added behind it";
}

// Room is made: what waited is kept, in its order.
TEST_F(AuditTrailTest, WhatHappensWhileTheDiskIsFullWaits) {
  std::vector<std::string> failures;
  sim::Disk disk{sys::Stream(std::uint64_t{1})};
  AuditTrail trail(disk, *clock_, "/audit.log",
                   [&](const Error& why) { failures.emplace_back(name(why.code)); });
  ASSERT_TRUE(trail.open());
  const auto join = [&](const char* client) {
    trail.on({.name = "client_joined", .fields = {{"client", std::string(client)}}});
  };
  join("a");
  disk.full = true;
  join("b");
  join("c");
  EXPECT_EQ(trail.status().error().code, ErrorCode::kDiskFull);
  disk.full = false;
  EXPECT_EQ(failures, std::vector<std::string>{"E_DISK_FULL"}) << "told once";
  join("d");
  EXPECT_TRUE(trail.status());
  const auto records = read_audit_trail(disk, "/audit.log");
  ASSERT_TRUE(records) << records.error().line();
  ASSERT_EQ(records->lines.size(), 4u);
  EXPECT_EQ(json::parse(records->lines[1]).at("client"), "b");
  EXPECT_EQ(json::parse(records->lines[3]).at("client"), "d");
}

TEST_F(AuditTrailTest, AJournalOfRoundsIsNone) {
  std::vector<journal::Record> none;
  ASSERT_TRUE(journal::Journal::open(*disk_, path_, 1, none));
  EXPECT_THAT(read().error().line(), HasSubstr("is the journal of something else"));
}

}  // namespace
}  // namespace strata::cli

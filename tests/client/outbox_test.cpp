// An outbox gives back the last whole entry, whatever a crash or a full disk did to the next one.
#include "client/outbox.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/file_size_limit.h"
#include "support/process.h"

namespace strata::client {
namespace {

using support::read_file;
using support::write_file;
using testing::HasSubstr;

class OutboxTest : public testing::Test {
 protected:
  Outbox open() {
    auto out = Outbox::open(*disk_, folder_, sys::Durability::kProcess);
    if (!out) throw std::runtime_error(out.error().line());
    return std::move(*out);
  }
  static OutboxEntry entry(std::uint32_t round) {
    OutboxEntry out{.round = round, .state = Bytes(100 + round, std::byte(round))};
    out.run[0] = std::byte{9};
    out.base[3] = std::byte(round);
    out.training.steps = std::uint64_t{10} * round;
    return out;
  }
  static Bytes update(std::uint32_t round) { return Bytes(1000 + 10 * round, std::byte(round)); }
  static Bytes bytes_in(const Result<OutboxPart>& part) {
    return Bytes(part.value().bytes.begin(), part.value().bytes.end());
  }
  static void expect_holds(const Outbox& outbox, std::uint32_t round) {
    ASSERT_TRUE(outbox.last());
    EXPECT_EQ(outbox.last()->round, round);
    EXPECT_EQ(outbox.last()->training.steps, 10 * round);
    EXPECT_EQ(outbox.last()->base[3], std::byte(round));
    EXPECT_EQ(outbox.last()->update, sha256(update(round)));
    EXPECT_EQ(bytes_in(outbox.read(0, update(round).size())), update(round));
    EXPECT_EQ(bytes_in(outbox.read(7, 3)), Bytes(3, std::byte(round)));
    EXPECT_EQ(outbox.state().value(), entry(round).state);
  }

  support::ScratchFolder scratch_;
  std::filesystem::path folder_ = scratch_.path() / "outbox";
  std::unique_ptr<sys::Disk> disk_ = sys::make_posix_disk();
};

TEST_F(OutboxTest, HoldsNoStateInMemory) {
  Outbox outbox = open();
  for (const std::uint32_t round : {1u, 2u}) {
    ASSERT_TRUE(outbox.put(entry(round), update(round)));
    EXPECT_EQ(outbox.last()->state.capacity(), 0U);
    ASSERT_TRUE(outbox.put_state(entry(round + 10), update(round)));
    EXPECT_EQ(outbox.last()->state.capacity(), 0U);
  }
}

TEST_F(OutboxTest, HoldsTheLastRoundAcrossProcesses) {
  EXPECT_FALSE(open().last());
  EXPECT_FALSE(open().was_used());
  EXPECT_TRUE(open().state().value().empty());
  for (const std::uint32_t round : {1u, 2u, 3u, 7u}) {
    {
      Outbox outbox = open();
      ASSERT_TRUE(outbox.put(entry(round), update(round)));
      expect_holds(outbox, round);
    }
    expect_holds(open(), round);
  }
}

TEST_F(OutboxTest, GoesBackToTheRoundBefore) {
  Outbox outbox = open();
  for (const std::uint32_t round : {1u, 2u, 3u})
    ASSERT_TRUE(outbox.put(entry(round), update(round)));
  ASSERT_TRUE(outbox.drop_last());
  expect_holds(outbox, 2);
  ASSERT_TRUE(outbox.put(entry(3), update(3)));
  expect_holds(outbox, 3);
  ASSERT_TRUE(outbox.drop_last());
  expect_holds(outbox, 2);
  EXPECT_TRUE(outbox.was_used());
  // The one before that was written over: saying nothing would be to begin anew.
  const auto gone = outbox.drop_last();
  ASSERT_FALSE(gone);
  EXPECT_EQ(gone.error().code, ErrorCode::kDamaged);
  EXPECT_THAT(gone.error().line(), HasSubstr("does not hold round 1 any more"));
}

TEST_F(OutboxTest, TheFirstRoundHasNothingBeforeIt) {
  Outbox outbox = open();
  ASSERT_TRUE(outbox.put(entry(4), update(4)));
  ASSERT_TRUE(outbox.drop_last());
  EXPECT_FALSE(outbox.last());
  EXPECT_TRUE(outbox.state().value().empty());
}

TEST_F(OutboxTest, ARoundTrainedOnceMoreTakesItsOwnPlace) {
  Outbox outbox = open();
  ASSERT_TRUE(outbox.put(entry(1), update(1)));
  ASSERT_TRUE(outbox.put(entry(2), update(9)));
  ASSERT_TRUE(outbox.put(entry(2), update(2)));
  expect_holds(outbox, 2);
  ASSERT_TRUE(outbox.drop_last());
  expect_holds(outbox, 1);
}

// Cut and flipped at every byte: the entry counts whole or not at all.
TEST_F(OutboxTest, AHalfWrittenEntryDoesNotCount) {
  {
    Outbox outbox = open();
    ASSERT_TRUE(outbox.put(entry(1), update(1)));
    ASSERT_TRUE(outbox.put(entry(2), update(2)));
  }
  const auto newest = folder_ / "b";
  const std::string whole = read_file(newest);
  for (std::size_t n = 0; n < whole.size(); n += 1 + n % 7) {
    write_file(newest, whole.substr(0, n));
    expect_holds(open(), 1);
    std::string flipped = whole;
    flipped[n] = static_cast<char>(flipped[n] ^ 0x10);
    write_file(newest, flipped);
    const Outbox outbox = open();
    ASSERT_TRUE(outbox.last());
    EXPECT_EQ(outbox.last()->round, 1u) << "flipped byte " << n;
  }
  write_file(newest, whole + "left from a longer one");
  expect_holds(open(), 2);
}

TEST_F(OutboxTest, AFullDiskLeavesTheLastEntry) {
  Outbox outbox = open();
  ASSERT_TRUE(outbox.put(entry(1), update(1)));
  {
    const support::FileSizeLimit limit(500);
    EXPECT_FALSE(outbox.put(entry(2), update(2)));
  }
  expect_holds(outbox, 1);
  ASSERT_TRUE(outbox.put(entry(2), update(2)));
  expect_holds(outbox, 2);
}

TEST_F(OutboxTest, IsOfOneProcess) {
  const Outbox outbox = open();
  const auto second = Outbox::open(*disk_, folder_, sys::Durability::kMachine);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kLocked);
}

}  // namespace
}  // namespace strata::client

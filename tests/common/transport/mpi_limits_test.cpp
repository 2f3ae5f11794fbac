// Ranks that fall silent, speak nonsense, are too slow or leave: over an MPI that is made up.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fake_mpi.h"
#include "parties.h"
#include "transport/mpi_message.h"

namespace strata::transport {
namespace {

using testing::HasSubstr;

MpiOptions short_times() {
  MpiOptions out;
  out.heartbeat_s = 0.05;
  out.dead_s = 0.4;
  out.close_s = 0.2;
  out.finalize_s = 0.5;
  return out;
}

// Rank 0 listens; rank 1 is "clinic-a", rank 2 "clinic-b".
class MpiLimits : public testing::Test {
 protected:
  void start(MpiOptions options = short_times()) {
    for (int rank = 0; rank < 3; ++rank) {
      ranks_.push_back(Federation::value(
          join_mpi_by(std::make_unique<FakePort>(job_, rank), pump_, *clock_, options)));
    }
    listener_ = ranks_[0]->listener();
    ASSERT_TRUE(listener_->listen(hub_));
    clinic_a_ = ranks_[1]->dialer("clinic-a");
    clinic_b_ = ranks_[2]->dialer("clinic-b");
  }
  void connect(Dialer& dialer, Notes& notes) {
    const std::size_t before = hub_.connections.size();
    const std::size_t own = notes.connections.size();
    dialer.dial(notes, [this](const Error& error) { failures_.push_back(error); });
    ASSERT_TRUE(pump_.run_until([&] {
      return !failures_.empty() ||
             (hub_.connections.size() > before && notes.connections.size() > own);
    }));
    ASSERT_TRUE(failures_.empty()) << failures_[0].line();
  }
  void connect_both() {
    connect(*clinic_a_, a_);
    connect(*clinic_b_, b_);
  }
  // A message from rank 1 to rank 0 as another program might write it.
  void forge(MpiMessage head, ByteSpan body) {
    const auto bytes = encode_header(head);
    Bytes message(bytes.begin(), bytes.end());
    message.insert(message.end(), body.begin(), body.end());
    job_->put(1, 0, std::move(message));
  }

  Pump pump_;
  std::unique_ptr<sys::Clock> clock_ = sys::make_posix_clock();
  std::shared_ptr<FakeJob> job_ = std::make_shared<FakeJob>(3);
  std::vector<std::unique_ptr<MpiCluster>> ranks_;
  Notes hub_;
  Notes a_;
  Notes b_;
  std::vector<Error> failures_;
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<Dialer> clinic_a_;
  std::unique_ptr<Dialer> clinic_b_;
};

TEST_F(MpiLimits, IdleRanksKeepEachOtherAlive) {
  start();
  connect_both();
  pump_.run_for(1.2);
  EXPECT_TRUE(hub_.ends.empty());
  EXPECT_TRUE(a_.ends.empty());
}

TEST_F(MpiLimits, ASilentRankEndsOnBothSidesAndHurtsNobodyElse) {
  start();
  connect_both();
  job_->silence(1);
  // A send that is never taken: it may not hold up what is for others.
  for (int i = 0; i < 3; ++i) hub_.connections[0]->send(frame_of(wire::kBulkBytesMax));
  hub_.connections[1]->send(frame_of(1000));
  ASSERT_TRUE(pump_.run_until([&] { return b_.frames.size() == 1; }));
  ASSERT_TRUE(pump_.run_until([&] { return !hub_.ends.empty() && !a_.ends.empty(); }));
  EXPECT_EQ(hub_.ends[0].code, ErrorCode::kPeer);
  EXPECT_THAT(hub_.ends[0].line(), HasSubstr("rank 1: has been silent for "));
  EXPECT_THAT(a_.ends[0].line(), HasSubstr("rank 0: has been silent for "));
  EXPECT_EQ(hub_.connections[0]->unsent_bytes(), 0u);
  b_.connections[0]->send(frame_of(10));
  ASSERT_TRUE(pump_.run_until([&] { return hub_.frames.size() == 1; }));
  EXPECT_TRUE(b_.ends.empty());
  EXPECT_EQ(hub_.ends.size(), 1u);
  // Who dials a dead rank is told at once.
  clinic_a_->dial(a_, [this](const Error& error) { failures_.push_back(error); });
  ASSERT_TRUE(pump_.run_until([&] { return !failures_.empty(); }));
  EXPECT_EQ(failures_[0].code, ErrorCode::kPeer);
}

TEST_F(MpiLimits, ARankThatWakesUpDialsAgain) {
  start();
  connect(*clinic_a_, a_);
  job_->silence(1);
  hub_.connections[0]->send(frame_of(wire::kBulkBytesMax));
  ASSERT_TRUE(pump_.run_until([&] { return !hub_.ends.empty() && !a_.ends.empty(); }));
  job_->wake(1);
  pump_.run_for(1);  // what each still has to tell the other
  connect(*clinic_a_, a_);
  a_.connections.back()->send(frame_of(500));
  hub_.connections.back()->send(frame_of(600));
  ASSERT_TRUE(pump_.run_until([&] { return hub_.frames.size() == 1 && a_.frames.size() == 1; }));
  EXPECT_EQ(hub_.ends.size(), 1u);
  EXPECT_EQ(a_.ends.size(), 1u);
}

TEST_F(MpiLimits, ForgottenConnectionsAreClosedByWhoeverForgot) {
  start();
  forge({.kind = MpiKind::kData, .connection = 77, .total = 10}, Bytes(10));
  connect(*clinic_a_, a_);  // rank 1 ignored the close of what it never had
  EXPECT_TRUE(a_.ends.empty());
}

TEST_F(MpiLimits, NonsenseEndsTheConnectionsOfItsRank) {
  start();
  connect_both();
  job_->put(1, 0, Bytes(100));
  ASSERT_TRUE(pump_.run_until([&] { return !hub_.ends.empty() && !a_.ends.empty(); }));
  EXPECT_EQ(hub_.ends[0].code, ErrorCode::kProtocol);
  EXPECT_THAT(hub_.ends[0].line(), HasSubstr("rank 1: sent a message that is not strata's"));
  EXPECT_EQ(a_.ends[0].code, ErrorCode::kPeer);
  EXPECT_TRUE(b_.ends.empty());
}

TEST_F(MpiLimits, BrokenFramesEndTheirConnection) {
  start();
  const auto good = wire::encode(frame_of(100));
  struct Case {
    std::uint64_t offset;
    std::uint64_t total;
    Bytes body;
    const char* what;
  };
  auto flipped = good;
  flipped[80] ^= std::byte{1};
  const std::vector<Case> cases{
      {5, good.size(), Bytes(3), "sent a piece that begins at byte 5"},
      {0, good.size(), Bytes(good.size()), "begins with 00000000"},
      {0, good.size(), flipped, "has payload checksum"},
      {0, good.size() + 1, good, "does not end after"},
      {0, good.size() - 1, Bytes(good.begin(), good.end() - 1), "does not end after"},
  };
  for (std::size_t i = 0; i < cases.size(); ++i) {
    connect(*clinic_a_, a_);
    forge({.kind = MpiKind::kData,
           .connection = i + 1,
           .offset = cases[i].offset,
           .total = cases[i].total},
          cases[i].body);
    ASSERT_TRUE(pump_.run_until([&] { return hub_.ends.size() == i + 1; })) << i;
    EXPECT_EQ(hub_.ends[i].code, ErrorCode::kProtocol) << hub_.ends[i].line();
    EXPECT_THAT(hub_.ends[i].line(), HasSubstr(cases[i].what));
    ASSERT_TRUE(pump_.run_until([&] { return a_.ends.size() == i + 1; }));
  }
  EXPECT_TRUE(hub_.frames.empty());
}

TEST_F(MpiLimits, HeadersAreCheckedBeforeTheyAreBelieved) {
  const auto code_of = [](MpiMessage head, std::size_t body) {
    const auto bytes = encode_header(head);
    Bytes message(bytes.begin(), bytes.end());
    message.resize(message.size() + body);
    return decode_message(message).has_value();
  };
  constexpr std::uint64_t kMost = ~std::uint64_t{0};
  EXPECT_TRUE(code_of({.kind = MpiKind::kData, .offset = 10, .total = 20}, 10));
  EXPECT_FALSE(code_of({.kind = MpiKind::kData, .offset = 11, .total = 20}, 10));
  EXPECT_FALSE(code_of({.kind = MpiKind::kData, .offset = kMost, .total = 20}, 1));
  EXPECT_FALSE(code_of({.kind = MpiKind::kData, .offset = 0, .total = kMost}, 10));
  EXPECT_FALSE(code_of({.kind = MpiKind::kOpen, .total = 20}, 10));
  EXPECT_FALSE(code_of({.kind = static_cast<MpiKind>(9)}, 0));
  EXPECT_FALSE(code_of({.kind = static_cast<MpiKind>(0)}, 0));
  EXPECT_FALSE(code_of({.kind = MpiKind::kClose, .end = static_cast<MpiEnd>(2)}, 0));
}

TEST_F(MpiLimits, RefusesAnIdThatIsNone) {
  start();
  const auto dialer = ranks_[1]->dialer("No Id!");
  dialer->dial(a_, [this](const Error& error) { failures_.push_back(error); });
  ASSERT_TRUE(pump_.run_until([&] { return !failures_.empty(); }));
  EXPECT_THAT(failures_[0].line(), HasSubstr("\"No Id!\" is no id"));
  EXPECT_TRUE(hub_.connections.empty());
}

TEST_F(MpiLimits, OnlyRankZeroListens) {
  start();
  const auto other = ranks_[1]->listener();
  const auto refused = other->listen(b_);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().line(), HasSubstr("rank 1 cannot listen"));
}

TEST_F(MpiLimits, InAMeshAnyRankListensAndIsWatched) {
  auto options = short_times();
  options.mesh = true;
  start(options);
  const auto other = ranks_[1]->listener();
  Notes at_one;
  ASSERT_TRUE(other->listen(at_one));
  const auto two_to_one = ranks_[2]->dialer("clinic-b", 1);
  two_to_one->dial(b_, [this](const Error& error) { failures_.push_back(error); });
  ASSERT_TRUE(pump_.run_until([&] {
    return !failures_.empty() || (!at_one.connections.empty() && !b_.connections.empty());
  }));
  ASSERT_TRUE(failures_.empty()) << failures_[0].line();
  EXPECT_EQ(at_one.connections[0]->peer().id, "clinic-b");
  EXPECT_EQ(at_one.connections[0]->peer().address, "rank 2");
  EXPECT_EQ(b_.connections[0]->peer().address, "rank 1");
  b_.connections[0]->send(frame_of(1000));
  ASSERT_TRUE(pump_.run_until([&] { return at_one.frames.size() == 1; }));
  pump_.run_for(0.8);  // idle ranks keep each other alive
  EXPECT_TRUE(at_one.ends.empty());
  job_->silence(1);
  ASSERT_TRUE(pump_.run_until([&] { return !b_.ends.empty(); }));
  EXPECT_THAT(b_.ends[0].line(), HasSubstr("rank 1: has been silent for "));
}

TEST_F(MpiLimits, WhoDoesNotTakeWhatIsSentIsTooSlow) {
  auto options = short_times();
  options.dead_s = 30;
  options.outbox_bytes_max = 10000;
  start(options);
  connect_both();
  job_->silence(1);
  for (int i = 0; i < 20; ++i) hub_.connections[0]->send(frame_of(1000));
  ASSERT_TRUE(pump_.run_until([&] { return !hub_.ends.empty(); }));
  EXPECT_EQ(hub_.ends[0].code, ErrorCode::kPeer);
  EXPECT_THAT(hub_.ends[0].line(), HasSubstr("rank 1: is too slow"));
}

// What is not handled is not received, and this deafness is not taken for the others' silence.
TEST_F(MpiLimits, ABusyExecutorHoldsUpTheSenders) {
  auto options = short_times();
  options.inbox_bytes_max = 100000;
  start(options);
  connect(*clinic_a_, a_);
  for (int i = 0; i < 100; ++i) a_.connections[0]->send(frame_of(50000, 0x100, i));
  std::this_thread::sleep_for(std::chrono::milliseconds(900));
  ASSERT_TRUE(pump_.run_until([&] { return hub_.frames.size() == 100; }));
  EXPECT_TRUE(hub_.ends.empty());
  EXPECT_TRUE(a_.ends.empty());
}

TEST_F(MpiLimits, ClosingGivesUpOnWhatIsNotTaken) {
  auto options = short_times();
  options.dead_s = 30;
  start(options);
  connect(*clinic_a_, a_);
  job_->silence(1);
  for (int i = 0; i < 5; ++i) hub_.connections[0]->send(frame_of(100000));
  hub_.connections[0]->close();
  EXPECT_GT(hub_.connections[0]->unsent_bytes(), 0u);
  // What MPI has already stays.
  ASSERT_TRUE(pump_.run_until([&] { return hub_.connections[0]->unsent_bytes() <= 100000u; }));
  job_->wake(1);
  ASSERT_TRUE(pump_.run_until([&] { return !a_.ends.empty(); }));
  EXPECT_LE(a_.frames.size(), 1u);
}

TEST_F(MpiLimits, FarewellsEndConnectionsAtOnce) {
  start();
  connect_both();
  bool left = false;
  std::thread leaving([&] { left = ranks_[1]->finish(5); });
  ASSERT_TRUE(pump_.run_until([&] { return !hub_.ends.empty(); }));
  EXPECT_EQ(hub_.ends[0].code, ErrorCode::kPeer);
  EXPECT_EQ(hub_.ends.size(), 1u);
  std::thread leaving_too([&] { (void)ranks_[2]->finish(5); });
  const double began = clock_->seconds();
  EXPECT_TRUE(ranks_[0]->finish(5));
  leaving.join();
  leaving_too.join();
  EXPECT_TRUE(left);
  EXPECT_LT(clock_->seconds() - began, 2);
  EXPECT_TRUE(ranks_[0]->has_left(1) && ranks_[0]->has_left(2) && ranks_[1]->has_left(0));
  EXPECT_FALSE(ranks_[0]->has_left(0));
  EXPECT_TRUE(a_.ends.empty());
  // Afterwards nothing is heard and nothing breaks.
  a_.connections[0]->send(frame_of(10));
  clinic_a_->dial(a_, [this](const Error& error) { failures_.push_back(error); });
  pump_.run_for(0.05);
  EXPECT_EQ(a_.connections.size(), 1u);
}

TEST_F(MpiLimits, NobodyWaitsForADeadRankToSayFarewell) {
  start();
  connect_both();
  job_->silence(1);
  hub_.connections[0]->send(frame_of(wire::kBulkBytesMax));
  std::thread leaving([&] { EXPECT_TRUE(ranks_[2]->finish(5)); });
  const double began = clock_->seconds();
  EXPECT_TRUE(ranks_[0]->finish(5));
  EXPECT_LT(clock_->seconds() - began, 2);
  leaving.join();
  EXPECT_TRUE(ranks_[0]->has_left(2));
  EXPECT_FALSE(ranks_[0]->has_left(1));
}

// It goes last: a rank that lives and is not heard loses a farewell and nothing else.
TEST_F(MpiLimits, RankZeroWaitsThreeBeatsForAFarewellNotAWholeSilence) {
  auto options = short_times();
  options.dead_s = 30;
  start(options);
  connect_both();
  job_->silence(1);
  std::thread leaving([&] { EXPECT_TRUE(ranks_[2]->finish(5)); });
  const double began = clock_->seconds();
  EXPECT_TRUE(ranks_[0]->finish(20));
  EXPECT_LT(clock_->seconds() - began, 2);
  leaving.join();
}

}  // namespace
}  // namespace strata::transport

// In which order a rank's messages leave: short ones between the pieces of long ones, but for those
// of the same connection.
#include "transport/mpi_outbox.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace strata::transport {
namespace {

using testing::ElementsAre;

// Takes one piece a call of send(), and writes down of what it is.
class OnePiece final : public MpiPort {
 public:
  Result<MpiPlace> start() override { return MpiPlace{}; }
  Result<void> send(int, ByteSpan bytes) override {
    const auto message = decode_message(bytes);
    if (!message) return fail(message.error());
    pieces.push_back(std::to_string(message->connection) +
                     (message->kind == MpiKind::kFarewell ? " farewell"
                      : message->kind == MpiKind::kClose  ? " close"
                      : message->total > kMpiPieceMax     ? " long"
                                                          : " short"));
    ready_ = false;
    return {};
  }
  Result<bool> sent(int) override { return std::exchange(ready_, false); }
  Result<std::optional<MpiArrival>> receive() override { return std::nullopt; }
  [[nodiscard]] bool receiving() const override { return false; }
  void finish() override {}
  void abandon(std::unique_ptr<MpiPort>, std::vector<Bytes>) override {}

  void let_go() { ready_ = true; }
  std::vector<std::string> pieces;

 private:
  bool ready_ = false;
};

class MpiOutboxTest : public testing::Test {
 protected:
  void frame(std::uint64_t connection, std::size_t bytes) {
    wire::Frame out;
    out.payload.resize(bytes);
    outbox_.push(MpiEnd::kListener, connection, std::move(out), std::make_shared<MpiMeter>());
  }
  /// The piece that is under way has left.
  void step() {
    port_.let_go();
    EXPECT_TRUE(outbox_.turn(port_, 0.0));
  }
  std::vector<std::string> all() {
    while (!outbox_.empty() || outbox_.under_way()) step();
    return port_.pieces;
  }

  OnePiece port_;
  MpiOutbox outbox_{1};
};

TEST_F(MpiOutboxTest, AShortMessageDoesNotWaitForAnotherConnectionsFrame) {
  frame(1, 3 * kMpiPieceMax - 1000);
  step();
  frame(2, 100);
  frame(3, 100);
  EXPECT_THAT(all(), ElementsAre("1 long", "2 short", "3 short", "1 long", "1 long"));
}

TEST_F(MpiOutboxTest, WithinAConnectionTheOrderStays) {
  frame(1, 2 * kMpiPieceMax - 1000);
  step();
  frame(1, 100);
  outbox_.push(MpiKind::kClose, MpiEnd::kListener, 1, "over");
  frame(2, 100);
  EXPECT_THAT(all(), ElementsAre("1 long", "2 short", "1 long", "1 short", "1 close"));
}

TEST_F(MpiOutboxTest, WhatWasShortBeforeStaysBefore) {
  frame(1, 100);
  frame(1, 2 * kMpiPieceMax - 1000);
  EXPECT_THAT(all(), ElementsAre("1 short", "1 long", "1 long"));
}

TEST_F(MpiOutboxTest, AFarewellIsTheLastWord) {
  frame(1, 2 * kMpiPieceMax - 1000);
  outbox_.push(MpiKind::kFarewell, MpiEnd::kListener, 0, {});
  frame(2, 100);
  EXPECT_THAT(all(), ElementsAre("2 short", "1 long", "1 long", "0 farewell"));
}

TEST_F(MpiOutboxTest, FramesThatAreDroppedLeaveNothing) {
  frame(1, 3 * kMpiPieceMax - 1000);
  step();
  frame(2, 100);
  frame(2, 2 * kMpiPieceMax);
  outbox_.drop_frames(MpiEnd::kListener, 1);
  outbox_.drop_frames(MpiEnd::kListener, 2);
  EXPECT_THAT(all(), ElementsAre("1 long"));
}

}  // namespace
}  // namespace strata::transport

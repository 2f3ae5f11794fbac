// A round whose tensors are merged in several places, in one that also trains ahead: what this
// place has merged is on its way as soon as all updates are here, not only when the round may be
// closed.
#include <gtest/gtest.h>

#include "protocol/update_codec.h"
#include "sim/stage.h"
#include "support/updates.h"

namespace strata::sim {
namespace {

struct Rounds final : coordinator::ServerObserver {
  Result<void> committed(const coordinator::RoundCommitted& r) override {
    chains.push_back(r.chain);
    return {};
  }
  std::vector<Sha256> chains;
};

class MergedAhead : public Stage {
 protected:
  void SetUp() override {
    coordinator::ServerConfig config;
    config.may_close = [this](std::uint32_t, std::function<void()> again) {
      close_again_ = std::move(again);
      return may_close_;
    };
    config.complete = [this](std::uint32_t round, adapter::Packet& packet,
                             std::function<void()> again) -> Result<bool> {
      EXPECT_TRUE(packet.tensors.contains(kStageTensor));
      asked_for_.push_back(round);
      parts_again_ = std::move(again);
      return parts_are_here_;
    };
    open({"anna"}, 2, std::move(config), rounds_);
    call(anna_, "anna");
    ASSERT_FALSE(anna_.ended) << *anna_.ended;
    say(protocol::Hello{.program = "test", .head = {0, base_}});
    say(protocol::Ready{{0, base_}});
    protocol::Update update{.client = "anna", .round = 1, .base = base_};
    update.delta[kStageTensor] = {8, 16, {support::random_pair(8, 16, 2, 5)}};
    const Bytes bytes = protocol::encode(update, protocol::Encoding::kF32).bytes;
    say(protocol::Offer{.round = 1,
                        .base = base_,
                        .update = {.hash = sha256(bytes), .size = bytes.size(), .data = bytes}});
  }
  void say(const protocol::Message& message) {
    anna_.say(message);
    settle();
  }

  bool may_close_ = false, parts_are_here_ = false;
  std::function<void()> close_again_, parts_again_;
  std::vector<std::uint32_t> asked_for_;
  Rounds rounds_;
  Party anna_;
};

TEST_F(MergedAhead, PartsTravelWhileTheRoundMayNotBeClosed) {
  ASSERT_EQ(server_->machine().accepted().size(), 1u);
  EXPECT_EQ(server_->machine().phase(), coordinator::Phase::kOpen);
  ASSERT_FALSE(asked_for_.empty()) << "nothing is on its way";
  parts_are_here_ = true;
  parts_again_();
  settle();
  EXPECT_TRUE(rounds_.chains.empty()) << "closed before the round ahead was kept";
  const auto asked = asked_for_.size();
  may_close_ = true;
  close_again_();
  settle();
  EXPECT_EQ(rounds_.chains.size(), 1u);
  EXPECT_EQ(asked_for_.size(), asked) << "what was complete is asked for again";
}

TEST_F(MergedAhead, ARoundThatMayBeClosedWaitsForTheParts) {
  may_close_ = true;
  close_again_();
  settle();
  EXPECT_EQ(server_->machine().phase(), coordinator::Phase::kOpen);
  EXPECT_TRUE(rounds_.chains.empty());
  parts_are_here_ = true;
  parts_again_();
  settle();
  EXPECT_EQ(rounds_.chains.size(), 1u);
}

}  // namespace
}  // namespace strata::sim

// A round whose tensors are merged in several places, in one that also trains ahead: what this
// place has merged is on its way as soon as all updates are here, not only when the round may be
// closed.
#include <gtest/gtest.h>

#include "coordinator/server.h"
#include "protocol/update_codec.h"
#include "sim/disk.h"
#include "sim/network.h"
#include "sim/party.h"
#include "sim/tiny_model.h"
#include "support/updates.h"

namespace strata::sim {
namespace {

constexpr const char* kTensor = "model.layers.0.mlp.down_proj.weight";

struct Rounds final : coordinator::ServerObserver {
  Result<void> committed(const coordinator::RoundCommitted& r) override {
    chains.push_back(r.chain);
    return {};
  }
  std::vector<Sha256> chains;
};

class MergedAhead : public testing::Test {
 protected:
  void SetUp() override {
    auto core = coordinator::Coordinator::make(
        {.method = "flora", .restart = "fresh", .rounds = 2, .measure = false}, tiny_model(1));
    ASSERT_TRUE(core) << core.error().line();
    base_ = core->chain();
    coordinator::ServerConfig config{
        .machine = {.clients = {"anna"}, .rounds = 2, .quorum = 1},
        .folder = "/run/state",
        .plan_of = [](const protocol::ClientId&) { return std::string("{}"); }};
    config.run[0] = std::byte{7};
    config.expected["anna"] = std::make_shared<coordinator::Outline>(
        coordinator::Outline{{kTensor, protocol::TensorOutline{8, 16, {2}}}});
    config.may_close = [this](std::uint32_t, std::function<void()> again) {
      close_again_ = std::move(again);
      return may_close_;
    };
    config.complete = [this](std::uint32_t round, adapter::Packet& packet,
                             std::function<void()> again) -> Result<bool> {
      EXPECT_TRUE(packet.tensors.contains(kTensor));
      asked_for_.push_back(round);
      parts_again_ = std::move(again);
      return parts_are_here_;
    };
    auto server = coordinator::Server::open(std::move(config), std::move(*core),
                                            {executor_, time_, disk_, rounds_});
    ASSERT_TRUE(server) << server.error().line();
    server_ = std::move(*server);
    listener_ = network_.listener(executor_);
    ASSERT_TRUE(listener_->listen(*server_));
    server_->start();
    settle();
    dialer_ = network_.dialer(elsewhere_, "anna");
    dialer_->dial(anna_, [](const Error& why) { ADD_FAILURE() << why.line(); });
    settle();
    say(protocol::Hello{.program = "test", .head = {0, base_}});
    say(protocol::Ready{{0, base_}});
    protocol::Update update{.client = "anna", .round = 1, .base = base_};
    update.delta[kTensor] = {8, 16, {support::random_pair(8, 16, 2, 5)}};
    const Bytes bytes = protocol::encode(update, protocol::Encoding::kF32).bytes;
    say(protocol::Offer{.round = 1,
                        .base = base_,
                        .update = {.hash = sha256(bytes), .size = bytes.size(), .data = bytes}});
  }
  void say(const protocol::Message& message) {
    anna_.say(message);
    settle();
  }
  void settle() {
    const double until = time_.seconds() + 10.0;
    bool woken = false;
    time_.at(until, [&] { woken = true; });
    while (!woken && time_.step()) {
    }
  }

  bool may_close_ = false, parts_are_here_ = false;
  std::function<void()> close_again_, parts_again_;
  std::vector<std::uint32_t> asked_for_;
  Timeline time_{1};
  Network network_{time_, sys::Stream(std::uint64_t{1})};
  Disk disk_{sys::Stream(std::uint64_t{1})};
  ProcessExecutor executor_{time_, [](const auto& task) { task(); }};
  ProcessExecutor elsewhere_{time_, [](const auto& task) { task(); }};
  Rounds rounds_;
  Sha256 base_{};
  Party anna_;
  std::unique_ptr<coordinator::Server> server_;
  std::unique_ptr<transport::Listener> listener_;
  std::unique_ptr<transport::Dialer> dialer_;
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

// Training ahead of a merge: on which model, no farther than one round, and so that a process that
// is killed at any time goes on with the same rounds.
#include "client/ahead_worker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/process.h"
#include "support/pump.h"

namespace strata::client {
namespace {

using testing::HasSubstr;

Sha256 model_after(std::uint32_t round) {
  Sha256 out{};
  out[0] = std::byte(round + 1);
  return out;
}

// A model that is nothing but the round it is after.
class NumberedBase final : public BaseModel {
 public:
  std::uint32_t round = 0;

  const model::Model& model() const override { return model_.value(); }
  protocol::Head head() const override { return {.round = round, .chain = model_after(round)}; }
  const protocol::MeanFactors& mean_factors() const override { return none_; }
  Result<void> fold(const protocol::Head&, ByteSpan) override { return {}; }
  Result<void> take_snapshot(const protocol::Head&, const std::filesystem::path&) override {
    return {};
  }
  void settle() override {}
  Sha256 state_hash() override { return {}; }

 private:
  std::optional<model::Model> model_;  // none: nothing here looks into it
  protocol::MeanFactors none_;
};

// Its update says what it was trained on, its state all that it has trained.
class TellingWorker final : public RoundWorker {
 public:
  struct Pending {
    RoundStart start;
    std::function<void(Result<RoundDone>)> done;
  };
  void train(const RoundStart& start, std::function<void(Result<RoundDone>)> done) override {
    pending = Pending{start, std::move(done)};
  }
  void abort() override { aborted = true; }
  Result<void> restore(ByteSpan bytes) override {
    state.assign(bytes.begin(), bytes.end());
    return {};
  }
  void end() {
    auto now = std::exchange(pending, std::nullopt);
    state.push_back(std::byte(now->start.round));
    Bytes update = state;
    update.push_back(now->start.base[0]);
    now->done(RoundDone{.update = std::move(update), .state = state, .training = {.steps = 1}});
  }
  void fail_with(ErrorCode code) {
    std::exchange(pending, std::nullopt)->done(fail({.code = code, .what = "the loss is NaN"}));
  }
  std::optional<Pending> pending;
  Bytes state;
  bool aborted = false;
};

constexpr std::uint32_t kRounds = 4;

class AheadWorkerTest : public testing::Test {
 protected:
  // A client's process, with the part of its session that matters here.
  struct Process {
    std::optional<Outbox> outbox;
    TellingWorker* inner = nullptr;
    std::unique_ptr<AheadWorker> worker;
    std::vector<Error> lost;
    int moved = 0;
  };
  std::unique_ptr<Process> start() {
    auto p = std::make_unique<Process>();
    const auto open = [&](const char* name) {
      return std::move(
          Outbox::open(*disk_, scratch_.path() / name, sys::Durability::kProcess, false).value());
    };
    p->outbox = open("outbox");
    auto inner = std::make_unique<TellingWorker>();
    p->inner = inner.get();
    p->worker = std::make_unique<AheadWorker>(std::move(inner), open("ahead"),
                                              AheadTools{pump_, base_, *p->outbox, kRounds});
    p->worker->lost = [p = p.get()](const Error& why) { p->lost.push_back(why); };
    p->worker->moved = [p = p.get()] { ++p->moved; };
    if (p->outbox->last()) {
      EXPECT_TRUE(p->worker->restore(p->outbox->state().value()));
    }
    return p;
  }
  // A round is asked for; its update comes to the outbox.
  static void ask(Process& p, std::uint32_t round) {
    p.worker->train({.round = round, .rounds = kRounds, .base = model_after(round - 1)},
                    [&p, round](Result<RoundDone> done) {
                      ASSERT_TRUE(done) << done.error().line();
                      ASSERT_TRUE(p.outbox->put({.round = round,
                                                 .base = model_after(round - 1),
                                                 .training = done->training,
                                                 .state = done->state},
                                                done->update));
                    });
  }
  bool has(Process& p, std::uint32_t round) {
    return pump_.run_until([&] { return p.outbox->last() && p.outbox->last()->round == round; },
                           0.2);
  }
  static void show(Process& p) {
    const auto& last = *p.outbox->last();
    ASSERT_TRUE(p.worker->release(last.run, last.round, last.update));
  }
  // Begun anew, and round 1 is there and may be seen.
  std::unique_ptr<Process> start_and_show_one() {
    auto p = start();
    ask(*p, 1);
    p->inner->end();
    EXPECT_TRUE(has(*p, 1));
    show(*p);
    return p;
  }
  static Bytes update_in(const Process& p) {
    const auto part = p.outbox->read(0, p.outbox->last()->update_bytes);
    return Bytes(part.value().bytes.begin(), part.value().bytes.end());
  }
  static std::uint8_t trained_on(const Process& p) {
    const auto& last = *p.outbox->last();
    return static_cast<std::uint8_t>(p.outbox->read(last.update_bytes - 1, 1).value().bytes[0]) - 1;
  }

  support::ScratchFolder scratch_;
  support::Pump pump_;
  NumberedBase base_;
  std::unique_ptr<sys::Disk> disk_ = sys::make_posix_disk();
};

TEST_F(AheadWorkerTest, TrainsOnTheModelBeforeTheMerge) {
  auto p = start();
  for (std::uint32_t round = 1; round <= kRounds; ++round) {
    ask(*p, round);
    if (round == 1) p->inner->end();
    ASSERT_TRUE(has(*p, round));
    EXPECT_EQ(trained_on(*p), round == 1 ? 0 : round - 2);
    show(*p);
    if (round == kRounds) break;
    ASSERT_TRUE(p->inner->pending) << "the next round is under way";
    EXPECT_EQ(p->inner->pending->start.round, round + 1);
    EXPECT_TRUE(p->inner->pending->start.used_before);
    EXPECT_FALSE(p->worker->is_ahead_of(round)) << "its model is in use";
    const int moved = p->moved;
    p->inner->end();
    EXPECT_GT(p->moved, moved);
    EXPECT_TRUE(p->worker->is_ahead_of(round));
    EXPECT_FALSE(p->inner->pending) << "one round ahead is enough";
    base_.round = round;
  }
  EXPECT_FALSE(p->inner->pending);
  EXPECT_TRUE(p->worker->is_ahead_of(kRounds)) << "nothing is behind the last";
}

TEST_F(AheadWorkerTest, HoldsTheModelWhileItTrains) {
  auto p = start_and_show_one();
  bool is_free = false;
  base_.when_free([&] { is_free = true; });
  EXPECT_FALSE(is_free);
  p->inner->end();
  EXPECT_TRUE(is_free);
}

// Killed while it trains ahead; killed when that is done; killed when the merge is done, too.
TEST_F(AheadWorkerTest, GoesOnAfterAKillWithTheSameUpdates) {
  for (const int when : {0, 1, 2}) {
    ASSERT_TRUE(disk_->remove_all(scratch_.path() / "outbox"));
    ASSERT_TRUE(disk_->remove_all(scratch_.path() / "ahead"));
    base_.round = 0;
    auto p = start_and_show_one();
    if (when > 0) p->inner->end();
    if (when > 1) base_.round = 1;
    p = nullptr;
    p = start();
    if (when < 2) {
      EXPECT_EQ(p->worker->is_ahead_of(1), when == 1);
      EXPECT_EQ(p->inner->pending.has_value(), when == 0) << "nobody asks for an update again";
      if (when == 0) p->inner->end();
      ASSERT_TRUE(p->worker->is_ahead_of(1));
      base_.round = 1;
    }
    ask(*p, 2);
    ASSERT_TRUE(has(*p, 2)) << "killed at " << when;
    EXPECT_EQ(update_in(*p), (Bytes{std::byte{1}, std::byte{2}, std::byte{1}}));
    show(*p);
    ASSERT_TRUE(p->inner->pending);
    p->inner->end();
    base_.round = 2;
    ask(*p, 3);
    ASSERT_TRUE(has(*p, 3));
    EXPECT_EQ(update_in(*p), (Bytes{std::byte{1}, std::byte{2}, std::byte{3}, std::byte{2}}));
  }
}

TEST_F(AheadWorkerTest, ARoundWhoseModelIsGoneIsNotMadeUp) {
  auto p = start_and_show_one();
  p->inner->end();
  p = nullptr;
  ASSERT_TRUE(disk_->remove_all(scratch_.path() / "ahead"));
  base_.round = 1;
  p = start();
  ask(*p, 2);
  ASSERT_TRUE(pump_.run_until([&] { return !p->lost.empty(); }));
  EXPECT_EQ(p->lost[0].code, ErrorCode::kDamaged);
  EXPECT_THAT(p->lost[0].line(), HasSubstr("round 2 is not there"));
  EXPECT_FALSE(p->inner->pending);
}

TEST_F(AheadWorkerTest, AStateThatIsGoneIsSaidInsteadOfWaitedFor) {
  auto p = start();
  EXPECT_FALSE(p->worker->is_ahead_of(1));
  ASSERT_TRUE(pump_.run_until([&] { return !p->lost.empty(); }));
  EXPECT_EQ(p->lost[0].code, ErrorCode::kDamaged);
  EXPECT_THAT(p->lost[0].line(), HasSubstr("does not hold round 1 any more"));
}

// A member that is behind may be given an older round.
TEST_F(AheadWorkerTest, AnOldUpdateThatIsShownBeginsNothing) {
  auto p = start_and_show_one();
  const Sha256 first = p->outbox->last()->update;
  p->inner->end();
  base_.round = 1;
  ask(*p, 2);
  ASSERT_TRUE(has(*p, 2));
  ASSERT_TRUE(p->worker->release({}, 1, first));
  EXPECT_FALSE(p->inner->pending);
  show(*p);
  p->inner->end();  // round 3 is ahead now
  ASSERT_TRUE(p->worker->is_ahead_of(2));
  ASSERT_TRUE(p->worker->release({}, 1, first));
  EXPECT_FALSE(p->inner->pending);
}

TEST_F(AheadWorkerTest, AFailureEndsTheRunAndClosesNothing) {
  auto p = start_and_show_one();
  p->inner->fail_with(ErrorCode::kNumeric);
  ASSERT_TRUE(pump_.run_until([&] { return !p->lost.empty(); }));
  EXPECT_THAT(p->lost[0].line(), HasSubstr("the loss is NaN"));
  EXPECT_FALSE(p->worker->is_ahead_of(1));
  EXPECT_FALSE(p->inner->pending) << "it is not tried again and again";
}

TEST_F(AheadWorkerTest, StopsWhenItIsTold) {
  auto p = start_and_show_one();
  p->worker->abort();
  EXPECT_TRUE(p->inner->aborted);
  p->inner->fail_with(ErrorCode::kInterrupted);
  EXPECT_TRUE(p->lost.empty());
  EXPECT_FALSE(p->worker->is_ahead_of(1));
}

}  // namespace
}  // namespace strata::client

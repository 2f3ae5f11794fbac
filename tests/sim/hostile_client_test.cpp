// A client that is let in and means harm, frame by frame, against the real coordinator: it gets an
// answer or is cut off, and the model is what it would be without it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <optional>

#include "protocol/update_codec.h"
#include "sim/owner.h"
#include "sim/stage.h"
#include "support/updates.h"

namespace strata::sim {
namespace {

using protocol::Ack;
using protocol::Message;
using protocol::Outcome;
using testing::HasSubstr;

constexpr const char* kTensor = kStageTensor;

class HostileClient : public Stage {
 protected:
  struct Observer final : coordinator::ServerObserver {
    void left_out(const coordinator::ClientOut& o) override { out[o.client] = o.reason; }
    void left(const protocol::ClientId& c, const Error& why) override { gone[c] = why.line(); }
    Result<void> committed(const coordinator::RoundCommitted& r) override {
      rounds.push_back(r);
      return {};
    }
    std::map<std::string, std::string> out, gone;
    std::vector<coordinator::RoundCommitted> rounds;
  };

  void SetUp() override {
    open({"anna", "mallory"}, 3, {.deadline_seconds = deadline_}, observer_, &ledgers_);
  }
  [[nodiscard]] protocol::Hello hello() const { return {.program = "test", .head = {0, base_}}; }
  /// Through the greetings, to its first ROUND_OPEN.
  void join(Party& party, const std::string& id) {
    call(party, id);
    party.say(hello());
    settle();
    ASSERT_FALSE(party.ended) << *party.ended;
    party.say(protocol::Ready{{0, base_}});
    settle();
    ASSERT_FALSE(party.heard.empty());
    ASSERT_TRUE(std::holds_alternative<protocol::RoundOpen>(party.heard.back()));
    party.heard.clear();
  }
  [[nodiscard]] Bytes update(const std::string& id, unsigned seed, std::size_t rank = 2) const {
    protocol::Update out{.client = id, .round = 1, .base = base_};
    out.delta[kTensor] = {8, 16, {support::random_pair(8, 16, rank, seed)}};
    return protocol::encode(out, protocol::Encoding::kF32).bytes;
  }
  [[nodiscard]] protocol::Offer offer(const Bytes& bytes) const { return offer(bytes, 1, base_); }
  [[nodiscard]] static protocol::Offer offer(const Bytes& bytes, std::uint32_t round,
                                             const Sha256& base) {
    return {.round = round,
            .base = base,
            .update = {.hash = sha256(bytes), .size = bytes.size(), .data = bytes}};
  }
  /// Says that the update lies ready, and sends none of it.
  void announce(Party& party, const Bytes& bytes) {
    auto announced = offer(bytes);
    announced.update.data.clear();
    party.say(announced);
    settle();
  }
  /// Sends a part of it.
  void send(Party& party, const Bytes& bytes, std::size_t from, std::size_t to) {
    const auto at = [&](std::size_t i) { return bytes.begin() + static_cast<std::ptrdiff_t>(i); };
    party.say(protocol::Chunk{sha256(bytes), from, Bytes(at(from), at(to))});
    settle();
  }
  template <class M>
  static const M& last(const Party& party) {
    for (auto it = party.heard.rbegin(); it != party.heard.rend(); ++it) {
      if (const auto* m = std::get_if<M>(&*it)) return *m;
    }
    throw std::logic_error("no such message came");
  }
  /// What the coordinator said before it hung up.
  std::string problem_after(Party& party, const Message& message) {
    party.say(message);
    settle();
    EXPECT_FALSE(party.connection && !party.ended) << "the connection is still there";
    return last<protocol::Problem>(party).message;
  }
  /// The chain of round 1 when anna alone contributes.
  void anna_alone_makes_the_round() {
    Party anna;
    join(anna, "anna");
    anna.say(offer(update("anna", 1)));
    settle();
    EXPECT_EQ(last<Ack>(anna).outcome, Outcome::kAccepted);
    ASSERT_EQ(observer_.rounds.size(), 1u);
    protocol::Update alone{.client = "anna", .round = 1, .base = base_};
    alone.delta[kTensor] = {8, 16, {support::random_pair(8, 16, 2, 1)}};
    auto apart = coordinator::Coordinator::make(
        {.method = "flora", .restart = "fresh", .rounds = 3, .measure = false}, tiny_model(1));
    ASSERT_TRUE(apart->accept(alone));
    EXPECT_EQ(hex(observer_.rounds[0].chain), hex(apart->close().value().chain));
  }

  double deadline_ = 0.0;
  Observer observer_;
  SeenLedgers ledgers_;
};

TEST_F(HostileClient, IsNotAClientOfTheRun) {
  Party eve;
  call(eve, "eve");
  EXPECT_THAT(problem_after(eve, hello()), HasSubstr("eve is not a client of this run"));
}

TEST_F(HostileClient, GreetsWithAnotherModelRunOrVersion) {
  Party other_model;
  call(other_model, "mallory");
  auto m = hello();
  m.head.chain[0] ^= std::byte{1};
  EXPECT_THAT(problem_after(other_model, m), HasSubstr("use the same base model"));
  Party further;
  call(further, "mallory");
  m = hello();
  m.head.round = 4000000000;
  EXPECT_THAT(problem_after(further, m), HasSubstr("the coordinator is not that far"));
  Party other_run;
  call(other_run, "mallory");
  m = hello();
  m.run[3] = std::byte{1};
  EXPECT_THAT(problem_after(other_run, m), HasSubstr("work of another run"));
  Party future;
  call(future, "mallory");
  m = hello();
  m.min_version = protocol::kVersion + 1, m.max_version = 9;
  EXPECT_THAT(problem_after(future, m), HasSubstr("speaks protocol 3 to 9"));
}

TEST_F(HostileClient, SpeaksOutOfTurn) {
  Party early;
  call(early, "mallory");
  EXPECT_THAT(problem_after(early, protocol::Ready{}), HasSubstr("HELLO comes first"));
  Party twice;
  join(twice, "mallory");
  EXPECT_THAT(problem_after(twice, hello()), HasSubstr("HELLO comes once"));
  Party pretender;
  join(pretender, "mallory");
  EXPECT_THAT(problem_after(pretender, protocol::Finished{}),
              HasSubstr("a client sends no such message"));
  Party elsewhere;
  join(elsewhere, "mallory");
  elsewhere.run[5] ^= std::byte{1};
  EXPECT_THAT(problem_after(elsewhere, protocol::CatchUp{{0, base_}}),
              HasSubstr("is of another run"));
}

TEST_F(HostileClient, SendsTwoUpdatesAndTheFirstCounts) {
  Party mallory;
  join(mallory, "mallory");
  const Bytes first = update("mallory", 5), second = update("mallory", 6);
  mallory.say(offer(first));
  settle();
  EXPECT_EQ(last<Ack>(mallory).outcome, Outcome::kAccepted);
  mallory.say(offer(second));
  settle();
  EXPECT_EQ(last<Ack>(mallory).outcome, Outcome::kRejected);
  EXPECT_THAT(last<Ack>(mallory).reason, HasSubstr("came first for round 1"));
  mallory.say(offer(first));
  settle();
  EXPECT_EQ(last<Ack>(mallory).outcome, Outcome::kDuplicate);
  ASSERT_EQ(server_->machine().accepted().size(), 1u);
  EXPECT_EQ(server_->machine().accepted().at("mallory").update, sha256(first));
}

TEST_F(HostileClient, AnnouncesMoreThanPlannedAndIsNotEvenAskedForIt) {
  Party mallory;
  join(mallory, "mallory");
  auto huge = offer({});
  huge.update.size = std::uint64_t{1} << 62;
  mallory.say(huge);
  settle();
  ASSERT_EQ(mallory.heard.size(), 1u);
  EXPECT_EQ(last<Ack>(mallory).outcome, Outcome::kRejected);
  EXPECT_THAT(last<Ack>(mallory).reason, HasSubstr("what the plan says takes"));
  EXPECT_THAT(observer_.out["mallory"], HasSubstr("what the plan says takes"));
  anna_alone_makes_the_round();
}

TEST_F(HostileClient, SendsChunksNobodyAskedFor) {
  Party mallory;
  join(mallory, "mallory");
  const Bytes bytes = update("mallory", 5);
  announce(mallory, bytes);
  EXPECT_EQ(last<protocol::Fetch>(mallory).length, bytes.size());
  protocol::Chunk chunk{sha256(bytes), 16, Bytes(100)};
  EXPECT_THAT(problem_after(mallory, chunk), HasSubstr("were asked for"));
  Party again;
  join(again, "mallory");  // cut off, not banned: it may have been a fault
  announce(again, bytes);
  chunk = {sha256(bytes), 0, Bytes(bytes.size() + 1)};
  EXPECT_THAT(problem_after(again, chunk), HasSubstr("were asked for"));
}

TEST_F(HostileClient, SendsOtherBytesThanItAnnounced) {
  Party mallory;
  join(mallory, "mallory");
  auto lie = offer(update("mallory", 5));
  lie.update.hash = sha256(update("mallory", 6));
  mallory.say(lie);
  settle();
  EXPECT_EQ(last<Ack>(mallory).outcome, Outcome::kRejected);
  EXPECT_THAT(last<Ack>(mallory).reason, HasSubstr("not those that its hash names"));
  anna_alone_makes_the_round();
}

TEST_F(HostileClient, SendsPoisonAndIsLeftOut) {
  Party mallory;
  join(mallory, "mallory");
  Bytes bytes = update("mallory", 5);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::memcpy(bytes.data() + bytes.size() - sizeof nan, &nan, sizeof nan);
  mallory.say(offer(bytes));
  settle();
  EXPECT_EQ(last<Ack>(mallory).outcome, Outcome::kRejected);
  EXPECT_THAT(last<Ack>(mallory).reason, HasSubstr("finite"));
  anna_alone_makes_the_round();
}

TEST_F(HostileClient, SendsAnotherRankThanPlanned) {
  Party mallory;
  join(mallory, "mallory");
  mallory.say(offer(update("mallory", 5, 1)));
  settle();
  EXPECT_EQ(last<Ack>(mallory).outcome, Outcome::kRejected);
  EXPECT_THAT(last<Ack>(mallory).reason, HasSubstr("has rank 1; the plan says rank 2"));
  anna_alone_makes_the_round();
}

TEST_F(HostileClient, OffersForRoundsThatAreNot) {
  Party mallory;
  join(mallory, "mallory");
  auto future = offer(update("mallory", 5));
  future.round = 2;
  EXPECT_THAT(problem_after(mallory, future), HasSubstr("round 1 is the latest"));
}

// However often an upload is begun anew, its client has one place in the round's file.
TEST_F(HostileClient, BeginsUploadsWithoutEndAndFillsNoDisk) {
  Party mallory;
  join(mallory, "mallory");
  for (unsigned i = 0; i < 200; ++i) {
    const Bytes bytes = update("mallory", i);
    announce(mallory, bytes);
    mallory.say(protocol::Chunk{sha256(bytes), 0, Bytes(200)});
    settle();
  }
  const auto file = disk_.map("/run/state/updates/open");
  ASSERT_TRUE(file);
  EXPECT_LT((*file)->bytes().size(), 4096u);
}

// The newest connection of a client is the true one; an upload on the older one goes with it.
TEST_F(HostileClient, ConnectsTwiceWithOneName) {
  Party first, second;
  join(first, "mallory");
  join(second, "mallory");
  EXPECT_TRUE(first.ended);
  EXPECT_THAT(last<protocol::Problem>(first).message, HasSubstr("took over"));
  second.say(offer(update("mallory", 5)));
  settle();
  EXPECT_EQ(last<Ack>(second).outcome, Outcome::kAccepted);
}

// What has come of an upload need not come again.
TEST_F(HostileClient, GoesOnWithAnUploadOverAnotherConnection) {
  Party first, second, third;
  join(first, "mallory");
  const Bytes bytes = update("mallory", 5), other = update("mallory", 6);
  announce(first, bytes);
  send(first, bytes, 0, 24);
  join(second, "mallory");
  announce(second, other);
  EXPECT_EQ(last<protocol::Fetch>(second).offset, 0u) << "another update begins at its beginning";
  send(second, other, 0, 16);
  join(third, "mallory");
  announce(third, other);
  EXPECT_EQ(last<protocol::Fetch>(third).offset, 16u);
  EXPECT_EQ(last<protocol::Fetch>(third).length, other.size() - 16);
  send(third, other, 16, other.size());
  EXPECT_EQ(last<Ack>(third).outcome, Outcome::kAccepted);
  EXPECT_EQ(server_->machine().accepted().at("mallory").update, sha256(other));
}

// A process that was killed and started again at once: what its first life said last may come
// after what its second life said first.
TEST_F(HostileClient, GreetsOnAConnectionOlderThanItsOwn) {
  Party first, second;
  call(first, "mallory");
  join(second, "mallory");
  first.say(hello());
  settle();
  EXPECT_TRUE(first.ended);
  EXPECT_THAT(last<protocol::Problem>(first).message, HasSubstr("took over"));
  EXPECT_FALSE(second.ended);
  second.say(offer(update("mallory", 5)));
  settle();
  EXPECT_EQ(last<Ack>(second).outcome, Outcome::kAccepted);
}

TEST_F(HostileClient, FetchesWhatIsNotThere) {
  Party mallory;
  join(mallory, "mallory");
  const std::string said =
      problem_after(mallory, protocol::Fetch{sha256(bytes_of("/etc/passwd")), 0, 100});
  EXPECT_THAT(said, HasSubstr("asked for"));
}

class SlowClient : public HostileClient {
 protected:
  SlowClient() { deadline_ = 60.0; }
  [[nodiscard]] static protocol::Update anna_of(std::uint32_t round, const Sha256& base) {
    protocol::Update out{.client = "anna", .round = round, .base = base};
    out.delta[kTensor] = {8, 16, {support::random_pair(8, 16, 2, round)}};
    return out;
  }
  static Bytes encoded(const protocol::Update& update) {
    return protocol::encode(update, protocol::Encoding::kF32).bytes;
  }
};

// A place in a round's file is of that round: what comes of an upload that its round did not wait
// for lands on nobody's update of the next one.
TEST_F(SlowClient, GoesOnWithAnUploadOfARoundThatIsOver) {
  Party mallory, anna;
  join(mallory, "mallory");
  const Bytes slow = update("mallory", 5);
  announce(mallory, slow);
  send(mallory, slow, 0, 8);
  join(anna, "anna");
  anna.say(offer(encoded(anna_of(1, base_))));
  while (observer_.rounds.empty()) settle();
  const Sha256 next = observer_.rounds[0].chain;
  anna.say(offer(encoded(anna_of(2, next)), 2, next));
  settle();
  ASSERT_EQ(last<Ack>(anna).outcome, Outcome::kAccepted);
  EXPECT_EQ(last<Ack>(mallory).outcome, Outcome::kLate);
  send(mallory, slow, 8, slow.size());
  while (observer_.rounds.size() < 2) settle();
  auto apart = coordinator::Coordinator::make(
      {.method = "flora", .restart = "fresh", .rounds = 3, .measure = false}, tiny_model(1));
  ASSERT_TRUE(apart->accept(anna_of(1, base_)));
  ASSERT_EQ(hex(apart->close().value().chain), hex(next));
  ASSERT_TRUE(apart->accept(anna_of(2, next)));
  EXPECT_EQ(hex(observer_.rounds[1].chain), hex(apart->close().value().chain));
}

// Its bytes have come, and what they cost was paid before.
TEST_F(SlowClient, ComesTooLateAndItsLedgerIsRememberedAllTheSame) {
  Party mallory, anna, again;
  const protocol::LedgerMark first{sha256(bytes_of("ledger")), 3, sha256(bytes_of("three"))};
  const protocol::LedgerMark further{first.ledger, 5, sha256(bytes_of("five"))};
  auto greeting = hello();
  greeting.ledger = first;
  call(mallory, "mallory");
  mallory.say(greeting);
  settle();
  mallory.say(protocol::Ready{{0, base_}});
  settle();
  join(anna, "anna");
  anna.say(offer(encoded(anna_of(1, base_))));
  while (observer_.rounds.empty()) settle();
  auto late = offer(update("mallory", 5));
  late.ledger = further;
  mallory.say(late);
  settle();
  ASSERT_EQ(last<Ack>(mallory).outcome, Outcome::kLate);
  call(again, "mallory");
  again.say(greeting);  // as after an older copy was put back
  settle();
  EXPECT_EQ(last<protocol::Welcome>(again).remembered, further);
}

TEST_F(HostileClient, TakesPartWithAnotherPlan) {
  Party mallory;
  call(mallory, "mallory");
  auto m = hello();
  m.plan = sha256(bytes_of("older"));
  mallory.say(m);
  settle();
  EXPECT_EQ(last<protocol::Welcome>(mallory).plan, "{}") << "to be compared";
  EXPECT_THAT(problem_after(mallory, protocol::Ready{{0, base_}}),
              HasSubstr("the client holds plan"));
}

}  // namespace
}  // namespace strata::sim

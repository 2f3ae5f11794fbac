// Members that give each other their clients' updates: whole, in time, also to those that were
// away, and never something else.
#include "client/peers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/process.h"
#include "support/pump.h"
#include "transport/in_process.h"

namespace strata::client {
namespace {

using testing::HasSubstr;

constexpr std::size_t kLarge = 10 * wire::kChunkBytes + 77;

Sha256 model_after(std::uint32_t round) {
  Sha256 out{};
  out[0] = std::byte(round);
  return out;
}

// Trains when it is told to.
class HandWorker final : public RoundWorker {
 public:
  void train(const RoundStart& start, std::function<void(Result<RoundDone>)> done) override {
    round = start.round;
    done_ = std::move(done);
  }
  void abort() override {}
  Result<void> release(const protocol::RunId&, std::uint32_t, const Sha256&) override {
    if (!refuses) return {};
    return fail({.code = ErrorCode::kIo, .what = "the ledger cannot be written"});
  }
  Result<void> restore(ByteSpan) override { return {}; }
  void end(Result<RoundDone> how) { std::exchange(done_, nullptr)(std::move(how)); }

  std::uint32_t round = 0;
  bool refuses = false;  // to release

 private:
  std::function<void(Result<RoundDone>)> done_;
};

Bytes update_of(char client, std::uint32_t round, std::size_t size) {
  return Bytes(size, std::byte(static_cast<unsigned>(client) + round));
}

class PeersTest : public testing::Test {
 protected:
  // A member with one client, named by a letter.
  struct Member {
    char letter = 0;
    std::optional<Outbox> outbox;
    HandWorker* worker = nullptr;
    std::unique_ptr<Peers> peers;
    std::unique_ptr<RoundWorker> own;
    std::map<char, std::unique_ptr<RoundWorker>> others;
    std::vector<Error> lost;
    std::optional<Result<void>> finished;
  };

  static std::string name(char letter) { return std::string("clinic-") + letter; }

  transport::InProcess& hub(char letter) {
    auto& out = hubs_[letter];
    if (!out) out = std::make_unique<transport::InProcess>(pump_);
    return *out;
  }

  std::unique_ptr<Member> member(char letter, const std::string& all) {
    auto m = std::make_unique<Member>();
    m->letter = letter;
    auto outbox =
        Outbox::open(*disk_, scratch_.path() / name(letter), sys::Durability::kProcess, false);
    if (!outbox) throw std::runtime_error(outbox.error().line());
    m->outbox = std::move(*outbox);
    PeersConfig config{
        .name = std::string("member ") + letter, .plan = plan_, .pause = 0.01, .patience = 0.2};
    for (const char other : all) {
      if (other != letter) config.others.push_back(std::string("member ") + other);
    }
    config.member_of = [](const protocol::ClientId& id) {
      return std::string("member ") + id.back();
    };
    config.dial = [this](const protocol::ClientId& id) { return hub(id.back()).dialer(id); };
    m->peers = std::make_unique<Peers>(pump_, hub(letter).listener(), std::move(config));
    m->peers->lost = [m = m.get()](const Error& why) { m->lost.push_back(why); };
    auto worker = std::make_unique<HandWorker>();
    m->worker = worker.get();
    m->own = m->peers->share(name(letter), std::move(worker), *m->outbox);
    for (const char other : all) {
      if (other != letter) m->others[other] = m->peers->remote(name(other));
    }
    EXPECT_TRUE(m->peers->start());
    return m;
  }

  // As a session does it: train, keep, release.
  void train(Member& m, std::uint32_t round, std::size_t size = 1000) {
    begin(m, round, size);
    m.worker->end(RoundDone{
        .update = update_of(m.letter, round, size), .state = {}, .training = {.steps = round}});
  }
  void begin(Member& m, std::uint32_t round, std::size_t) {
    m.own->train({.round = round, .base = model_after(round - 1)}, [this, &m,
                                                                    round](Result<RoundDone> done) {
      if (!done) return;
      OutboxEntry entry{.round = round, .base = model_after(round - 1), .training = done->training};
      ASSERT_TRUE(m.outbox->put(std::move(entry), done->update));
      ASSERT_TRUE(m.own->release({}, round, m.outbox->last()->update));
    });
  }

  // What a member hears of another's client.
  static std::shared_ptr<std::optional<Result<RoundDone>>> ask(Member& m, char other,
                                                               std::uint32_t round) {
    auto out = std::make_shared<std::optional<Result<RoundDone>>>();
    m.others.at(other)->train({.round = round, .base = model_after(round - 1)},
                              [out](Result<RoundDone> done) { *out = std::move(done); });
    return out;
  }

  static void expect_update(const std::optional<Result<RoundDone>>& got, char client,
                            std::uint32_t round, std::size_t size = 1000) {
    ASSERT_TRUE(got && *got);
    EXPECT_EQ((*got)->update, update_of(client, round, size));
    EXPECT_EQ((*got)->training.steps, round);
  }

  support::ScratchFolder scratch_;
  support::Pump pump_;
  std::unique_ptr<sys::Disk> disk_ = sys::make_posix_disk();
  std::map<char, std::unique_ptr<transport::InProcess>> hubs_;
  Sha256 plan_{};
};

TEST_F(PeersTest, GiveEachOtherWhatTheirClientsTrained) {
  auto a = member('a', "abc"), b = member('b', "abc"), c = member('c', "abc");
  const auto early = ask(*a, 'b', 1);  // before it is there
  ASSERT_FALSE(pump_.run_until([&] { return early->has_value(); }, 0.1));
  for (auto* m : {a.get(), b.get(), c.get()}) train(*m, 1);
  const auto of_c = ask(*a, 'c', 1), of_a = ask(*b, 'a', 1), late = ask(*c, 'a', 1);
  ASSERT_TRUE(pump_.run_until([&] {
    return early->has_value() && of_c->has_value() && of_a->has_value() && late->has_value();
  }));
  expect_update(*early, 'b', 1);
  expect_update(*of_c, 'c', 1);
  expect_update(*of_a, 'a', 1);
  expect_update(*late, 'a', 1);
}

// Of an update a member gets its part, and then what the others have merged.
class PartsTest : public PeersTest {
 protected:
  std::unique_ptr<Member> merging(char letter, const std::string& all) {
    auto m = member(letter, all);
    auto kept = Outbox::open(*disk_, scratch_.path() / (std::string("parts-") + letter),
                             sys::Durability::kProcess, false);
    if (!kept) throw std::runtime_error(kept.error().line());
    m->peers->merge_parts(
        [](const std::string& who, ByteSpan update) -> Result<Bytes> {
          Bytes out(update.begin(), update.begin() + 10);
          out.push_back(std::byte(who.back()));
          return out;
        },
        std::move(*kept));
    return m;
  }
  static Bytes merged(char letter, std::uint32_t round, std::size_t size = 2000) {
    return Bytes(size, std::byte(static_cast<unsigned>(letter) * 3 + round));
  }
  // Until all parts are here.
  bool exchange(Member& m, std::uint32_t round, std::size_t size = 2000, double seconds = 60) {
    bool again = true;
    const std::map<std::string, Bytes>* got = nullptr;
    const bool came = pump_.run_until(
        [&] {
          if (!std::exchange(again, false)) return false;
          auto now = m.peers->exchange(
              round, [&] { return merged(m.letter, round, size); }, [&] { again = true; });
          EXPECT_TRUE(now) << now.error().line();
          got = now ? *now : nullptr;
          return got != nullptr;
        },
        seconds);
    for (const auto& [who, bytes] : came ? *got : std::map<std::string, Bytes>{})
      EXPECT_EQ(bytes, merged(who.back(), round, size)) << who;
    return came;
  }
  // All at once, as they are in one thread.
  static void begin_exchange(Member& m, std::uint32_t round, std::size_t size = 2000) {
    ASSERT_TRUE(m.peers->exchange(
        round, [&] { return merged(m.letter, round, size); }, [] {}));
  }
};

TEST_F(PartsTest, EachGetsItsPartOfUpdatesAndWhatTheOthersMerged) {
  auto a = merging('a', "abc"), b = merging('b', "abc"), c = merging('c', "abc");
  for (auto* m : {a.get(), b.get(), c.get()}) train(*m, 1);
  const auto of_a = ask(*b, 'a', 1), too = ask(*c, 'a', 1);
  ASSERT_TRUE(pump_.run_until([&] { return of_a->has_value() && too->has_value(); }));
  Bytes expected(10, std::byte('a' + 1));
  expected.push_back(std::byte('b'));
  EXPECT_EQ((**of_a)->update, expected);
  expected.back() = std::byte('c');
  EXPECT_EQ((**too)->update, expected);
  EXPECT_EQ((**too)->training.steps, 1U);

  begin_exchange(*a, 1, kLarge);
  begin_exchange(*b, 1, kLarge);
  EXPECT_FALSE(exchange(*a, 1, kLarge, 2)) << "c has not merged yet";
  EXPECT_FALSE(exchange(*a, 1, kLarge, 2)) << "b has, by now";
  begin_exchange(*c, 1, kLarge);
  for (auto* m : {a.get(), b.get(), c.get()}) EXPECT_TRUE(exchange(*m, 1, kLarge)) << m->letter;
}

// Whoever was killed before it had them gets those of the round before.
TEST_F(PartsTest, AMemberThatWasAwayGetsThePartsOfTheRoundBefore) {
  auto a = merging('a', "ab");
  begin_exchange(*a, 4);
  begin_exchange(*a, 5);
  auto b = merging('b', "ab");
  EXPECT_TRUE(exchange(*b, 4));
  a->own.reset();
  a = nullptr;  // started again, with what lies in its folder
  hubs_.erase('a');
  a = merging('a', "ab");
  b = nullptr;
  b = merging('b', "ab");
  EXPECT_TRUE(exchange(*b, 4));
  begin_exchange(*a, 5);
  EXPECT_TRUE(exchange(*b, 5));
  begin_exchange(*a, 6);
  b = nullptr;
  b = merging('b', "ab");
  EXPECT_FALSE(exchange(*b, 4, 2000, 2));
  ASSERT_FALSE(b->lost.empty());
  EXPECT_THAT(b->lost[0].line(), HasSubstr("asks for what was merged in round 4"));
}

TEST_F(PeersTest, LargeUpdatesComeInPieces) {
  auto a = member('a', "ab"), b = member('b', "ab");
  train(*a, 1, kLarge);
  const auto got = ask(*b, 'a', 1);
  ASSERT_TRUE(pump_.run_until([&] { return got->has_value(); }));
  expect_update(*got, 'a', 1, kLarge);
}

// It may have been killed before it had them; one round, as nobody can be farther behind.
TEST_F(PeersTest, AMemberThatWasAwayGetsTheRoundBefore) {
  auto a = member('a', "ab");
  train(*a, 4);
  train(*a, 5);
  auto b = member('b', "ab");
  const auto before = ask(*b, 'a', 4);
  ASSERT_TRUE(pump_.run_until([&] { return before->has_value(); }));
  expect_update(*before, 'a', 4);
  const auto now = ask(*b, 'a', 5);
  ASSERT_TRUE(pump_.run_until([&] { return now->has_value(); }));
  expect_update(*now, 'a', 5);
  // Started again, with what lies in its folder.
  a->own.reset();
  a = nullptr;
  hubs_.erase('a');
  a = member('a', "ab");
  b = nullptr;
  b = member('b', "ab");
  const auto again = ask(*b, 'a', 4);
  ASSERT_TRUE(pump_.run_until([&] { return again->has_value(); }));
  expect_update(*again, 'a', 4);
}

// Whoever had the round without the client would part from whoever had it with it.
TEST_F(PeersTest, AFailureEndsTheRunAndIsNotTold) {
  auto a = member('a', "ab"), b = member('b', "ab");
  const auto got = ask(*b, 'a', 1);
  bool told = false;
  a->own->train({.round = 1, .base = model_after(0)},
                [&](const Result<RoundDone>&) { told = true; });
  a->worker->end(fail({.code = ErrorCode::kNumeric, .what = "the loss is NaN"}));
  ASSERT_TRUE(pump_.run_until([&] { return !a->lost.empty(); }));
  EXPECT_EQ(a->lost[0].code, ErrorCode::kNumeric);
  EXPECT_THAT(a->lost[0].line(), HasSubstr("the loss is NaN"));
  EXPECT_FALSE(told);
  pump_.run_for(0.05);
  EXPECT_FALSE(got->has_value());
}

TEST_F(PeersTest, WhoGivesUpTellsWhy) {
  auto a = member('a', "abc"), b = member('b', "abc");
  const auto of_a = ask(*b, 'a', 1);
  pump_.run_for(0.02);
  bool all = false;
  a->peers->give_up({.code = ErrorCode::kQuorum, .what = "round 1 is without client berta"},
                    [&] { all = true; });
  ASSERT_TRUE(pump_.run_until([&] { return !b->lost.empty(); }));
  EXPECT_FALSE(all);
  auto c = member('c', "abc");  // which asks when it is too late
  const auto of_b = ask(*c, 'b', 1), early = ask(*c, 'a', 1);
  ASSERT_TRUE(pump_.run_until([&] { return !c->lost.empty() && all; }));
  for (const auto* m : {b.get(), c.get()}) {
    EXPECT_EQ(m->lost[0].code, ErrorCode::kQuorum);
    EXPECT_THAT(m->lost[0].line(), HasSubstr("says: round 1 is without client berta"));
  }
  EXPECT_FALSE(of_a->has_value() || of_b->has_value() || early->has_value());
}

// Killed after it was kept and before it was released.
TEST_F(PeersTest, AnUpdateIsReleasedBeforeItIsShown) {
  auto a = member('a', "ab"), b = member('b', "ab");
  ASSERT_TRUE(a->outbox->put({.round = 1, .base = model_after(0), .training = {.steps = 1}},
                             update_of('a', 1, 1000)));
  a->worker->refuses = true;
  const auto refused = ask(*b, 'a', 1);
  ASSERT_TRUE(pump_.run_until([&] { return !b->lost.empty(); }));
  EXPECT_FALSE(refused->has_value()) << "it was shown";
  b = nullptr;
  b = member('b', "ab");
  a->worker->refuses = false;
  const auto got = ask(*b, 'a', 1);
  ASSERT_TRUE(pump_.run_until([&] { return got->has_value(); }));
  expect_update(*got, 'a', 1);
}

TEST_F(PeersTest, WhoIsFartherBehindIsRefused) {
  auto a = member('a', "ab"), b = member('b', "ab");
  for (const std::uint32_t round : {1u, 2u, 3u}) train(*a, round);
  const auto got = ask(*b, 'a', 1);
  ASSERT_TRUE(pump_.run_until([&] { return !b->lost.empty(); }));
  EXPECT_THAT(b->lost[0].line(), HasSubstr("asks for round 1; the last here is 3"));
  EXPECT_FALSE(got->has_value());
}

TEST_F(PeersTest, AnotherJobIsRefused) {
  auto a = member('a', "ab");
  plan_[0] = std::byte{1};
  auto b = member('b', "ab");
  const auto got = ask(*b, 'a', 1);
  ASSERT_TRUE(pump_.run_until([&] { return !b->lost.empty(); }));
  EXPECT_EQ(b->lost[0].code, ErrorCode::kConfig);
  EXPECT_THAT(b->lost[0].line(), HasSubstr("runs another job than member a, or begins with another "
                                           "base model"));
}

TEST_F(PeersTest, AnotherModelEndsIt) {
  auto a = member('a', "ab"), b = member('b', "ab");
  train(*a, 1);
  b->others.at('a')->train({.round = 1, .base = model_after(7)}, [](const Result<RoundDone>&) {});
  ASSERT_TRUE(pump_.run_until([&] { return !b->lost.empty(); }));
  EXPECT_THAT(b->lost[0].line(), HasSubstr("round 1 began here with another model"));
}

TEST_F(PeersTest, AMemberThatIsGoneEndsIt) {
  auto a = member('a', "ab"), b = member('b', "ab");
  const auto got = ask(*b, 'a', 1);
  ASSERT_FALSE(pump_.run_until([&] { return got->has_value(); }, 0.05));
  a = nullptr;
  hubs_.erase('a');
  ASSERT_TRUE(pump_.run_until([&] { return !b->lost.empty(); }));
  EXPECT_EQ(b->lost[0].code, ErrorCode::kPeer);
  EXPECT_THAT(b->lost[0].line(), HasSubstr("the same command goes on"));
  EXPECT_FALSE(got->has_value());
}

TEST_F(PeersTest, NobodyLeavesBeforeAllHaveWhatTheyNeed) {
  auto a = member('a', "ab"), b = member('b', "ab");
  train(*a, 1);
  train(*b, 1);
  const auto of_b = ask(*a, 'b', 1);
  ASSERT_TRUE(pump_.run_until([&] { return of_b->has_value(); }));
  const protocol::Finished last{.head = {.round = 1}, .state = model_after(1)};
  const auto note = [](Member& m) { return [&m](const Result<void>& how) { m.finished = how; }; };
  a->peers->finish(last, note(*a));
  ASSERT_FALSE(pump_.run_until([&] { return a->finished.has_value(); }, 0.6)) << "b still needs it";
  const auto of_a = ask(*b, 'a', 1);
  ASSERT_TRUE(pump_.run_until([&] { return of_a->has_value(); }));
  b->peers->finish(last, note(*b));
  ASSERT_TRUE(pump_.run_until([&] { return a->finished && b->finished; }));
  EXPECT_TRUE(*a->finished && *b->finished);
}

TEST_F(PeersTest, NobodyWaitsForWhoIsGoneAtTheEnd) {
  auto a = member('a', "ab");
  a->peers->finish({.head = {.round = 1}, .state = model_after(1)},
                   [&](const Result<void>& how) { a->finished = how; });
  ASSERT_TRUE(pump_.run_until([&] { return a->finished.has_value(); }, 2));
  EXPECT_TRUE(*a->finished);
  EXPECT_TRUE(a->lost.empty());
}

TEST_F(PeersTest, OtherBitsAtTheEndAreAnError) {
  auto a = member('a', "ab"), b = member('b', "ab");
  a->peers->finish({.head = {.round = 1}, .state = model_after(1)},
                   [&](const Result<void>& how) { a->finished = how; });
  b->peers->finish({.head = {.round = 1}, .state = model_after(2)},
                   [&](const Result<void>& how) { b->finished = how; });
  ASSERT_TRUE(pump_.run_until([&] { return a->finished && b->finished; }));
  EXPECT_FALSE(*a->finished);
  EXPECT_FALSE(*b->finished);
  EXPECT_THAT(a->finished->error().line(), HasSubstr("ended with model 02"));
}

}  // namespace
}  // namespace strata::client

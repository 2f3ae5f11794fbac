// Coordinator and clients over lines that are slow, lossy, cut and reset (support/relay.h): the
// same model as in one process.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <thread>

#include "e2e/federation_fixture.h"
#include "support/relay.h"
#include "sys/random.h"

namespace strata {
namespace {

using support::Relay;
using support::Shape;
using testing::HasSubstr;

class ShapedNetwork : public Federation {
 protected:
  /// Each client on a line of its own.
  void start_over(const Shape& up, const Shape& down) {
    std::uint64_t seed = 0;
    for (const auto& name : names_) {
      lines_[name] = std::make_unique<Relay>(support::RelayOptions{
          .target = host_ + ":" + port_, .up = up, .down = down, .seed = ++seed});
      calls_[name] = lines_[name]->address();
    }
    server_ = coordinator();
    for (const auto& name : names_) clients_[name] = client(name);
  }
  static void rest(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }

  std::map<std::string, std::unique_ptr<Relay>> lines_;  // by client
  std::unique_ptr<Running> server_;
  std::map<std::string, std::unique_ptr<Running>> clients_;
};

TEST_F(ShapedNetwork, SlowAndLossyLinesGiveTheModelOfOneProcess) {
  write_job();
  const std::string expected = plain_hash();
  const auto begin = std::chrono::steady_clock::now();
  start_over({.bytes_per_s_max = 20'000, .delay_ms = 40, .loss = 0.1},
             {.bytes_per_s_max = 100'000, .delay_ms = 40, .loss = 0.1});
  expect_model(*server_, clients_, expected);
  expect_every_contribution_once(3);
  std::size_t lost = 0;
  for (const auto& [name, line] : lines_) lost += line->counts().lost_segments;
  EXPECT_GT(lost, 0u);
  // A round is asked for and answered: twice 40 ms, three times.
  const auto took = std::chrono::steady_clock::now() - begin;
  EXPECT_GE(std::chrono::duration<double>(took).count(), 0.24);
}

// What a client sent before the cut may still count: one round more, and none after it.
TEST_F(ShapedNetwork, APartitionedClientIsWaitedForAndGoesOnWhenHealed) {
  job_["aggregation"]["rounds"] = 12;
  write_job();
  const std::string expected = plain_hash();
  start_over({.delay_ms = 5}, {.delay_ms = 5});
  ASSERT_TRUE(await_round(1));
  const std::size_t calls = lines_["berta"]->counts().connections;
  for (const std::uint32_t round : {2u, 5u}) {
    ASSERT_TRUE(await_round(round));
    lines_["berta"]->cut();
    const std::uint32_t done = rounds_done();
    rest(800);
    EXPECT_LE(rounds_done(), done + 1);
    lines_["berta"]->heal();
  }
  expect_model(*server_, clients_, expected);
  expect_every_contribution_once(12);
  EXPECT_EQ(lines_["berta"]->counts().connections, calls);  // TCP itself outlived them
}

TEST_F(ShapedNetwork, AConnectionResetDuringAPartitionIsMadeAnewWhenHealed) {
  job_["aggregation"]["rounds"] = 10;
  write_job();
  const std::string expected = plain_hash();
  start_over({.delay_ms = 5}, {.delay_ms = 5});
  ASSERT_TRUE(await_round(2));
  const std::size_t calls = lines_["berta"]->counts().connections;
  lines_["berta"]->cut();
  lines_["berta"]->reset();
  const std::uint32_t done = rounds_done();
  while (lines_["berta"]->counts().connections == calls) rest(5);  // a call that hears nothing
  EXPECT_LE(rounds_done(), done + 1);
  lines_["berta"]->heal();
  expect_model(*server_, clients_, expected);
  expect_every_contribution_once(10);
}

// The coordinator still believes in the old connection: the new one takes its place.
TEST_F(ShapedNetwork, AConnectionThatOnlyTheClientKnowsToBeOverIsSuperseded) {
  job_["aggregation"]["rounds"] = 10;
  write_job();
  const std::string expected = plain_hash();
  start_over({.delay_ms = 5}, {.delay_ms = 5});
  ASSERT_TRUE(await_round(1));
  const std::size_t calls = lines_["berta"]->counts().connections;
  for (const std::uint32_t round : {2u, 4u}) {
    ASSERT_TRUE(await_round(round));
    lines_["berta"]->strand();
  }
  expect_model(*server_, clients_, expected);
  expect_every_contribution_once(10);
  EXPECT_EQ(lines_["berta"]->counts().connections, calls + 2);
}

TEST_F(ShapedNetwork, ConnectionsResetAtAnyMomentGiveTheModelOfOneProcess) {
  job_["aggregation"]["rounds"] = 12;
  write_job();
  const std::string expected = plain_hash();
  start_over({.delay_ms = 5, .loss = 0.02}, {.delay_ms = 5, .loss = 0.02});
  sys::Stream draw(2026);
  for (std::uint32_t i = 0; i < 5; ++i) {
    ASSERT_TRUE(await_round(1 + 2 * i));
    rest(static_cast<int>(draw.below(60)));
    for (const auto& name : names_) {
      if (draw.below(2) == 0) lines_[name]->reset();
    }
  }
  expect_model(*server_, clients_, expected);
  expect_every_contribution_once(12);
}

// With a deadline nobody waits: the partitioned client is named, catches up, and takes part again.
TEST_F(ShapedNetwork, APartitionedClientMissesRoundsIsNamedAndComesBack) {
  job_["aggregation"]["rounds"] = 12;
  job_["aggregation"]["deadline"] = 2.0;
  job_["aggregation"]["min_clients"] = 2;
  write_job();
  start_over({.delay_ms = 5}, {.delay_ms = 5});
  ASSERT_TRUE(await_round(2));
  lines_["berta"]->cut();
  const auto done = static_cast<int>(rounds_done());
  ASSERT_TRUE(await_round(done + 2));
  lines_["berta"]->heal();
  const Finished ended = server_->wait();
  const std::string model = hash_in(ended);
  EXPECT_THAT(ended.out, HasSubstr("client berta: nothing came before the deadline"));
  for (auto& [name, one] : clients_) EXPECT_EQ(hash_in(one->wait()), model) << name;
  int after = 0;
  for (const auto& [which, times] : contributions(at("run"))) {
    const auto& [round, who] = which;
    EXPECT_EQ(times, 1) << who << " in round " << round;
    EXPECT_FALSE(who == "berta" && round == done + 2);
    if (who == "berta" && round > done + 2) ++after;
  }
  EXPECT_GT(after, 0);
}

}  // namespace
}  // namespace strata

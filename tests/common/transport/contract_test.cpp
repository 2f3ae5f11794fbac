// What every transport promises, said once and asked of each: a new member gets a World here.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "fake_mpi.h"
#include "parties.h"
#include "transport/in_process.h"

namespace strata::transport {
namespace {

// A listener and a dialer of client "clinic-a" that find each other.
class World {
 public:
  virtual ~World() = default;
  virtual std::unique_ptr<Listener> listener(Pump& pump) = 0;
  /// After listen().
  virtual std::unique_ptr<Dialer> dialer(Pump& pump, const Listener& listener) = 0;
  [[nodiscard]] virtual bool authenticates() const = 0;
};

class OneProcess final : public World {
 public:
  std::unique_ptr<Listener> listener(Pump& pump) override {
    hub_ = std::make_unique<InProcess>(pump);
    return hub_->listener();
  }
  std::unique_ptr<Dialer> dialer(Pump&, const Listener&) override {
    return hub_->dialer("clinic-a");
  }
  bool authenticates() const override { return false; }

 private:
  std::unique_ptr<InProcess> hub_;
};

class Tls final : public World {
 public:
  std::unique_ptr<Listener> listener(Pump& pump) override {
    return Federation::value(make_tls_listener(pump, clock_, federation_.disk(),
                                               {.address = "127.0.0.1:0",
                                                .files = federation_.files(coordinator_),
                                                .limits = wide_limits()}));
  }
  std::unique_ptr<Dialer> dialer(Pump& pump, const Listener& listener) override {
    return Federation::value(make_tls_dialer(pump, clock_, federation_.disk(),
                                             {.address = listener.address(),
                                              .files = federation_.files(client_),
                                              .limits = wide_limits()}));
  }
  bool authenticates() const override { return true; }

 private:
  ShiftedClock clock_;
  Federation federation_;
  std::filesystem::path coordinator_ = federation_.coordinator();
  std::filesystem::path client_ = federation_.client();
};

// Two ranks; the MPI between them is made up.
class Mpi final : public World {
 public:
  std::unique_ptr<Listener> listener(Pump& pump) override {
    const auto job = std::make_shared<FakeJob>(2);
    for (int rank = 0; rank < 2; ++rank) {
      ranks_.push_back(
          Federation::value(join_mpi_by(std::make_unique<FakePort>(job, rank), pump, *clock_, {})));
    }
    return ranks_[0]->listener();
  }
  std::unique_ptr<Dialer> dialer(Pump&, const Listener&) override {
    return ranks_[1]->dialer("clinic-a");
  }
  bool authenticates() const override { return false; }

 private:
  std::unique_ptr<sys::Clock> clock_ = sys::make_posix_clock();
  std::vector<std::unique_ptr<MpiCluster>> ranks_;
};

struct Member {
  const char* name;
  std::unique_ptr<World> (*make)();
};

class Transport : public testing::TestWithParam<Member> {
 protected:
  void SetUp() override {
    listener_ = world_->listener(pump_);
    ASSERT_TRUE(listener_->listen(hub_));
    dialer_ = world_->dialer(pump_, *listener_);
  }
  // One connection; `site_.connections.back()` and `hub_.connections.back()` are its ends.
  void connect() {
    const std::size_t before = site_.connections.size();
    dialer_->dial(site_, [this](const Error& error) { failures_.push_back(error); });
    ASSERT_TRUE(pump_.run_until([&] {
      return !failures_.empty() ||
             (site_.connections.size() > before && hub_.connections.size() > before);
    }));
    ASSERT_TRUE(failures_.empty()) << failures_[0].line();
    hub_.connections.back()->trust();
    site_.connections.back()->trust();
  }
  Connection& at_hub() { return *hub_.connections.back(); }
  Connection& at_site() { return *site_.connections.back(); }

  Pump pump_;
  std::unique_ptr<World> world_ = GetParam().make();
  Notes hub_;
  Notes site_;
  std::vector<Error> failures_;
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<Dialer> dialer_;
};

TEST_P(Transport, TellsWhoIsAtTheOtherEnd) {
  connect();
  EXPECT_EQ(at_hub().peer().id, "clinic-a");
  EXPECT_EQ(at_hub().peer().authenticated, world_->authenticates());
  EXPECT_EQ(at_site().peer().authenticated, world_->authenticates());
  EXPECT_FALSE(at_hub().peer().address.empty());
}

TEST_P(Transport, KeepsOrderInBothDirectionsAtOnce) {
  connect();
  for (std::uint64_t i = 0; i < 200; ++i) {
    at_site().send(frame_of(i * 131 % 5000, 0x101, i));
    at_hub().send(frame_of(i * 17 % 90000, 0x102, i));
  }
  ASSERT_TRUE(
      pump_.run_until([&] { return hub_.frames.size() == 200 && site_.frames.size() == 200; }));
  for (std::uint64_t i = 0; i < 200; ++i) {
    EXPECT_EQ(hub_.frames[i].header.round, i);
    EXPECT_EQ(hub_.frames[i].header.type, 0x101);
    EXPECT_EQ(hub_.frames[i].payload, frame_of(i * 131 % 5000).payload);
    EXPECT_EQ(site_.frames[i].header.round, i);
    EXPECT_EQ(site_.frames[i].payload, frame_of(i * 17 % 90000).payload);
  }
}

TEST_P(Transport, CarriesTheLargestPayloadsWhole) {
  connect();
  const auto payload = frame_of(wire::kBulkBytesMax).payload;
  for (int i = 0; i < 8; ++i) at_site().send(frame_of(wire::kBulkBytesMax));
  ASSERT_TRUE(pump_.run_until([&] { return hub_.frames.size() == 8; }));
  for (const auto& frame : hub_.frames) EXPECT_EQ(frame.payload, payload);
  ASSERT_TRUE(pump_.run_until([&] { return at_site().unsent_bytes() == 0; }));
}

TEST_P(Transport, SendsWhatIsQueuedBeforeItCloses) {
  connect();
  for (int i = 0; i < 5; ++i) at_hub().send(frame_of(1 << 20));
  at_hub().send(frame_of(10, 7));
  at_hub().close();
  ASSERT_TRUE(pump_.run_until([&] { return !site_.ends.empty(); }));
  ASSERT_EQ(site_.frames.size(), 6u);
  EXPECT_EQ(site_.frames.back().header.type, 7);
  EXPECT_EQ(site_.ends[0].code, ErrorCode::kPeer);
  EXPECT_THAT(site_.ends[0].what, testing::HasSubstr("the other side closed the connection"));
  // The end is told once, and who closed hears nothing.
  pump_.run_for(0.1);
  EXPECT_EQ(site_.ends.size(), 1u);
  EXPECT_TRUE(hub_.ends.empty());
}

TEST_P(Transport, ClosesWhenItIsLetGo) {
  connect();
  site_.connections.clear();
  ASSERT_TRUE(pump_.run_until([&] { return !hub_.ends.empty(); }));
  EXPECT_EQ(hub_.ends[0].code, ErrorCode::kPeer);
}

TEST_P(Transport, IgnoresFramesAfterTheEnd) {
  connect();
  at_site().close();
  at_site().send(frame_of(100));
  ASSERT_TRUE(pump_.run_until([&] { return !hub_.ends.empty(); }));
  at_hub().send(frame_of(100));
  at_hub().close();
  pump_.run_for(0.05);
  EXPECT_TRUE(hub_.frames.empty());
  EXPECT_TRUE(site_.frames.empty());
  EXPECT_EQ(at_hub().unsent_bytes(), 0u);
  EXPECT_EQ(at_site().unsent_bytes(), 0u);
}

TEST_P(Transport, HearsNothingAfterItClosed) {
  connect();
  for (int i = 0; i < 50; ++i) at_hub().send(frame_of(100000));
  at_site().close();
  ASSERT_TRUE(pump_.run_until([&] { return !hub_.ends.empty(); }));
  pump_.run_for(0.05);
  EXPECT_TRUE(site_.ends.empty());
  EXPECT_TRUE(site_.frames.empty()) << "it had closed before any could be handled";
}

TEST_P(Transport, AnswersFromWithinTheHandler) {
  hub_.opened = [](Connection& connection) {
    connection.trust();
    connection.send(frame_of(3, 0x111));
  };
  site_.heard = [](Connection& connection, wire::Frame frame) {
    connection.send(std::move(frame));
  };
  hub_.heard = [this](Connection& connection, wire::Frame frame) {
    hub_.frames.push_back(frame);
    if (hub_.frames.size() < 50) connection.send(std::move(frame));
  };
  connect();
  ASSERT_TRUE(pump_.run_until([&] { return hub_.frames.size() == 50; }));
}

TEST_P(Transport, CanBeDestroyedWhileBusy) {
  connect();
  for (int i = 0; i < 20; ++i) {
    at_site().send(frame_of(wire::kChunkBytes / 2));
    at_hub().send(frame_of(wire::kChunkBytes / 2));
  }
  dialer_->dial(site_, [](const Error&) {});
  dialer_.reset();
  listener_.reset();
  const std::size_t ends = hub_.ends.size();
  hub_.connections.clear();
  site_.connections.clear();
  pump_.run_for(0.05);
  EXPECT_EQ(hub_.ends.size(), ends);
  EXPECT_TRUE(site_.ends.empty());
}

TEST_P(Transport, TakesManyConnectionsOfOneDialer) {
  for (int i = 0; i < 10; ++i) connect();
  EXPECT_EQ(hub_.connections.size(), 10u);
  for (auto& connection : site_.connections) connection->send(frame_of(100));
  ASSERT_TRUE(pump_.run_until([&] { return hub_.frames.size() == 10; }));
}

TEST_P(Transport, RefusesWhenNobodyListensAnyMore) {
  listener_->stop();
  pump_.run_for(0.05);
  dialer_->dial(site_, [this](const Error& error) { failures_.push_back(error); });
  ASSERT_TRUE(pump_.run_until([&] { return !failures_.empty(); }));
  EXPECT_EQ(failures_[0].code, ErrorCode::kPeer);
  EXPECT_TRUE(site_.connections.empty());
}

TEST_P(Transport, SlowHandlersLoseNothing) {
  connect();
  constexpr std::size_t kFrames = 40;
  for (std::size_t i = 0; i < kFrames; ++i) at_site().send(frame_of(1 << 20, 0x100, i));
  // Nobody turns the executor for a while: what comes has to wait somewhere.
  std::this_thread::sleep_for(std::chrono::milliseconds(150));
  ASSERT_TRUE(pump_.run_until([&] { return hub_.frames.size() == kFrames; }));
  for (std::size_t i = 0; i < kFrames; ++i) EXPECT_EQ(hub_.frames[i].header.round, i);
}

INSTANTIATE_TEST_SUITE_P(
    Members, Transport,
    testing::Values(
        Member{"in_process",
               []() -> std::unique_ptr<World> { return std::make_unique<OneProcess>(); }},
        Member{"tls", []() -> std::unique_ptr<World> { return std::make_unique<Tls>(); }},
        Member{"mpi", []() -> std::unique_ptr<World> { return std::make_unique<Mpi>(); }}),
    [](const auto& member) { return std::string(member.param.name); });

}  // namespace
}  // namespace strata::transport

// Peers that are slow, silent, broken, too many or no longer welcome. Every wait here is short: the
// limits are set to it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "parties.h"
#include "raw_peer.h"
#include "transport/tls_gate.h"

namespace strata::transport {
namespace {

using testing::HasSubstr;

class TlsLimit : public testing::Test {
 protected:
  void listen(const TlsLimits& limits, bool crl = false) {
    if (crl) federation_.revoke("");
    auto files = federation_.files(coordinator_);
    if (crl) files.crl = federation_.crl();
    listener_ = Federation::value(make_tls_listener(
        pump_, clock_, federation_.disk(),
        {.address = "127.0.0.1:0",
         .files = files,
         .limits = limits,
         .refused = [this](const Error& error) { refused_.push_back(steady(error)); },
         .noticed = [this](const std::string& what) { noticed_.push_back(what); }}));
    ASSERT_TRUE(listener_->listen(hub_));
  }
  void connect(const TlsLimits& limits) {
    dialer_ = Federation::value(make_tls_dialer(
        pump_, clock_, federation_.disk(),
        {.address = listener_->address(), .files = federation_.files(client_), .limits = limits}));
    dialer_->dial(site_, [](const Error& error) { ADD_FAILURE() << error.line(); });
    ASSERT_TRUE(
        pump_.run_until([&] { return !site_.connections.empty() && !hub_.connections.empty(); }));
    hub_.connections.back()->trust();
  }
  // A client with a sound certificate that says what it likes, beside the executor.
  void raw(const std::function<void(SSL&)>& then) {
    std::atomic<bool> done = false;
    std::thread other([&] {
      (void)raw_client(listener_->address(), {.folder = client_}, then);
      done = true;
    });
    EXPECT_TRUE(pump_.run_until([&] { return done.load(); }));
    other.join();
  }
  std::string hub_end() {
    EXPECT_TRUE(pump_.run_until([&] { return !hub_.ends.empty(); }, 3));
    return hub_.ends.empty() ? "" : steady(hub_.ends[0]);
  }

  Pump pump_;
  Federation federation_;
  ShiftedClock clock_;
  std::filesystem::path coordinator_ = federation_.coordinator();
  std::filesystem::path client_ = federation_.client();
  Notes hub_;
  Notes site_;
  std::vector<std::string> refused_, noticed_;
  std::unique_ptr<TlsListener> listener_;
  std::unique_ptr<Dialer> dialer_;
};

void write(SSL& ssl, const Bytes& bytes) {
  (void)SSL_write(&ssl, bytes.data(), static_cast<int>(bytes.size()));
}

void wait_until_gone(SSL& ssl) {
  char room[256];
  while (SSL_read(&ssl, room, sizeof room) > 0) continue;
}

TEST_F(TlsLimit, AHandshakeThatIsNeverBegun) {
  auto limits = wide_limits();
  limits.handshake_s = 0.2;
  listen(limits);
  RawSocket silent(listener_->address());
  RawSocket slow(listener_->address());
  for (const char byte : {'\x16', '\x03', '\x01'}) {
    slow.send(std::string(1, byte));
    pump_.run_for(0.1);
  }
  ASSERT_TRUE(pump_.run_until([&] { return refused_.size() == 2; }));
  for (const auto& line : refused_)
    EXPECT_EQ(line, "[E_PEER] ADDRESS: has not said who it is within 0.2 s");
  EXPECT_TRUE(silent.closed());
  EXPECT_TRUE(slow.closed());
}

TEST_F(TlsLimit, ACoordinatorThatSaysNothing) {
  RawServer server([](int socket) {
    char room[1024];
    while (::recv(socket, room, sizeof room, 0) > 0) continue;
  });
  auto limits = wide_limits();
  limits.handshake_s = 0.2;
  dialer_ = Federation::value(make_tls_dialer(
      pump_, clock_, federation_.disk(),
      {.address = server.address(), .files = federation_.files(client_), .limits = limits}));
  std::string failure;
  dialer_->dial(site_, [&](const Error& error) { failure = steady(error); });
  ASSERT_TRUE(pump_.run_until([&] { return !failure.empty(); }));
  EXPECT_EQ(failure, "[E_PEER] ADDRESS: has not said who it is within 0.2 s");
}

TEST_F(TlsLimit, AFirstFrameThatNeverComes) {
  auto limits = wide_limits();
  limits.first_frame_s = 0.2;
  listen(limits);
  raw([](SSL& ssl) {
    // Half a frame, and heartbeats would not count either.
    Bytes frame = wire::encode(frame_of(100, 3));
    frame.resize(80);
    write(ssl, frame);
    wait_until_gone(ssl);
  });
  EXPECT_EQ(hub_end(), "[E_PEER] ADDRESS: has sent no whole frame within 0.2 s");
}

TEST_F(TlsLimit, AFrameThatTrickles) {
  auto limits = wide_limits();
  limits.rate_window_s = 0.2;
  listen(limits);
  // Before that no frame may be so large.
  std::atomic<bool> trusted = false;
  hub_.opened = [&](Connection& connection) {
    connection.trust();
    trusted = true;
  };
  raw([&](SSL& ssl) {
    while (!trusted) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    Bytes frame = wire::encode(frame_of(1000000));
    frame.resize(5000);
    write(ssl, frame);
    for (int i = 0; i < 20; ++i) {
      write(ssl, Bytes(1));
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    wait_until_gone(ssl);
  });
  EXPECT_THAT(hub_end(), HasSubstr("[E_PEER] ADDRESS: sends a frame at "));
  EXPECT_THAT(hub_end(), HasSubstr("65536 are needed on the average of 0.2 s"));
}

TEST_F(TlsLimit, APeerThatFallsSilent) {
  auto limits = wide_limits();
  limits.dead_s = 0.3;
  listen(limits);
  hub_.opened = [](Connection& connection) { connection.trust(); };
  raw([](SSL& ssl) { wait_until_gone(ssl); });
  EXPECT_EQ(hub_end(), "[E_PEER] ADDRESS: has been silent for 0.3 s");
}

TEST_F(TlsLimit, HeartbeatsKeepIdleConnections) {
  auto limits = wide_limits();
  limits.heartbeat_s = 0.05;
  limits.dead_s = 0.3;
  listen(limits);
  connect(limits);
  pump_.run_for(0.8);
  EXPECT_TRUE(hub_.ends.empty());
  EXPECT_TRUE(site_.ends.empty());
  EXPECT_TRUE(hub_.frames.empty()) << "heartbeats are no frames of the handler's";
  site_.connections[0]->send(frame_of(10));
  EXPECT_TRUE(pump_.run_until([&] { return hub_.frames.size() == 1; }));
}

TEST_F(TlsLimit, AStreamThatEndsWithoutAFarewell) {
  listen(wide_limits());
  raw([](SSL& ssl) { write(ssl, wire::encode(frame_of(100, 3))); });
  EXPECT_EQ(hub_end(), "[E_PEER] ADDRESS: stream truncated; an orderly end says so");
  EXPECT_EQ(hub_.frames.size(), 1u);
}

TEST_F(TlsLimit, AFarewellWithinAFrame) {
  listen(wide_limits());
  raw([](SSL& ssl) {
    Bytes frame = wire::encode(frame_of(100, 3));
    frame.resize(80);
    write(ssl, frame);
    SSL_shutdown(&ssl);
    wait_until_gone(ssl);
  });
  EXPECT_EQ(hub_end(),
            "[E_PEER] ADDRESS: stream truncated: the other side closed the connection within a "
            "frame");
}

TEST_F(TlsLimit, FramesThatBreakTheRules) {
  listen(wide_limits());
  raw([](SSL& ssl) {
    write(ssl, wire::encode(frame_of(5000, 3)));
    wait_until_gone(ssl);
  });
  EXPECT_EQ(hub_end(),
            "[E_PROTOCOL] ADDRESS: frame: of type 3 announces 5000 bytes; 4096 are allowed here");
  hub_.ends.clear();
  raw([](SSL& ssl) {
    auto frame = frame_of(10, 3);
    frame.header.sequence = 7;
    write(ssl, wire::encode(frame));
    wait_until_gone(ssl);
  });
  EXPECT_EQ(hub_end(),
            "[E_PROTOCOL] ADDRESS: frame: has sequence number 7; 0 is next on this connection");
  hub_.ends.clear();
  raw([](SSL& ssl) {
    write(ssl, wire::encode(frame_of(1, kPing)));
    wait_until_gone(ssl);
  });
  EXPECT_EQ(hub_end(), "[E_PROTOCOL] ADDRESS: a heartbeat has a payload");
}

TEST_F(TlsLimit, APeerThatDoesNotRead) {
  auto limits = wide_limits();
  limits.outbox_bytes_max = std::size_t{8} << 20;
  listen(limits);
  // Its executor does not turn meanwhile, so it takes what fits into its inbox and the system.
  auto narrow = wide_limits();
  narrow.inbox_bytes_max = 1 << 20;
  connect(narrow);
  for (int i = 0; i < 40; ++i) hub_.connections.back()->send(frame_of(wire::kChunkBytes));
  EXPECT_EQ(hub_end(),
            "[E_PEER] ADDRESS: takes frames too slowly: more than 8388608 bytes wait for it");
  EXPECT_EQ(hub_.connections.back()->unsent_bytes(), 0u);
}

TEST_F(TlsLimit, BytesThatAreNeverTaken) {
  auto limits = wide_limits();
  limits.dead_s = 0.3;
  listen(limits);
  hub_.opened = [](Connection& connection) {
    connection.trust();
    for (int i = 0; i < 4; ++i) connection.send(frame_of(wire::kChunkBytes));
  };
  raw([](SSL& ssl) {
    std::uint64_t sequence = 0;
    for (int i = 0; i < 20; ++i) {  // it talks, but does not listen
      auto frame = frame_of(1, 3);
      frame.header.sequence = sequence++;
      write(ssl, wire::encode(frame));
      std::this_thread::sleep_for(std::chrono::milliseconds(40));
    }
  });
  EXPECT_EQ(hub_end(), "[E_PEER] ADDRESS: has taken no byte for 0.3 s");
}

TEST_F(TlsLimit, TooManyFromOneAddress) {
  auto limits = wide_limits();
  limits.unknown_per_address_max = 4;
  limits.handshake_s = 30;
  listen(limits);
  std::vector<std::unique_ptr<RawSocket>> flood;
  flood.reserve(12);
  for (int i = 0; i < 12; ++i) flood.push_back(std::make_unique<RawSocket>(listener_->address()));
  ASSERT_TRUE(pump_.run_until([&] { return !refused_.empty(); }));
  EXPECT_EQ(refused_[0],
            "[E_PEER] 127.0.0.1: 1 connection closed at once; more than 4 connections that have "
            "not said who they are; find out what runs there");
  int closed = 0;
  for (std::size_t i = 4; i < flood.size(); ++i) closed += flood[i]->closed() ? 1 : 0;
  EXPECT_EQ(closed, 8);
  // Told once, and honest ones get in as soon as the flood is gone.
  refused_.clear();
  flood.clear();
  ASSERT_TRUE(pump_.run_until([&] { return refused_.size() >= 4; }));
  for (const auto& line : refused_) EXPECT_THAT(line, HasSubstr("before both sides were known"));
  connect(wide_limits());
}

TEST_F(TlsLimit, AnHonestClientGetsInBesideSlowOnes) {
  auto limits = wide_limits();
  limits.unknown_per_address_max = 200;
  listen(limits);
  std::vector<std::unique_ptr<RawSocket>> slow;
  slow.reserve(100);
  for (int i = 0; i < 100; ++i) slow.push_back(std::make_unique<RawSocket>(listener_->address()));
  connect(wide_limits());
  site_.connections[0]->send(frame_of(wire::kChunkBytes));
  EXPECT_TRUE(pump_.run_until([&] { return hub_.frames.size() == 1; }));
}

TEST_F(TlsLimit, ARevokedClientIsCutOffAtTheNextReload) {
  listen(wide_limits(), true);
  connect(wide_limits());
  ASSERT_TRUE(listener_->reload());
  pump_.run_for(0.05);
  EXPECT_TRUE(hub_.ends.empty());
  federation_.revoke("clinic-a");
  ASSERT_TRUE(listener_->reload());
  EXPECT_EQ(hub_end(),
            "[E_AUTH] ADDRESS: the certificate (clinic-a, serial N) has been revoked; ask the "
            "federation's authority for a new one");
  ASSERT_TRUE(pump_.run_until([&] { return !site_.ends.empty(); }));
  std::string failure;
  dialer_->dial(site_, [&](const Error& error) { failure = steady(error); });
  ASSERT_TRUE(pump_.run_until([&] { return !failure.empty(); }));
  EXPECT_THAT(failure, HasSubstr("[E_AUTH] ADDRESS: the coordinator refused our certificate: it "
                                 "has been revoked"));
}

TEST_F(TlsLimit, ChangedFilesAreFoundAndBadOnesChangeNothing) {
  auto limits = wide_limits();
  limits.reload_s = 0.05;
  listen(limits, true);
  connect(wide_limits());
  const std::string good = support::read_file(federation_.crl());
  support::write_file(federation_.crl(), "nonsense");
  ASSERT_TRUE(pump_.run_until([&] { return !refused_.empty(); }));
  EXPECT_THAT(refused_[0], HasSubstr("[E_AUTH] the old certificates stay in use: "));
  EXPECT_THAT(refused_[0], HasSubstr("crl.pem: holds no list of revoked certificates"));
  pump_.run_for(0.2);
  EXPECT_EQ(refused_.size(), 1u) << "told once";
  EXPECT_TRUE(hub_.ends.empty());
  support::write_file(federation_.crl(), good);
  federation_.revoke("clinic-a");
  EXPECT_THAT(hub_end(), HasSubstr("has been revoked"));
  EXPECT_THAT(noticed_, testing::Each(HasSubstr("changed certificate files are in use now")));
  EXPECT_FALSE(noticed_.empty());
}

// A coordinator that is at work for months says what runs out, and that it has.
TEST_F(TlsLimit, WhatRunsOutIsToldOnceADay) {
  auto limits = wide_limits();
  limits.reload_s = 0.02;
  listen(limits);
  pump_.run_for(0.2);
  EXPECT_TRUE(noticed_.empty()) << "who makes a listener looks at its files";
  clock_.let_pass(20);  // of 30
  ASSERT_TRUE(pump_.run_until([&] { return !noticed_.empty(); }));
  pump_.run_for(0.2);
  ASSERT_EQ(noticed_.size(), 1u) << "once a day";
  EXPECT_THAT(noticed_[0], AllOf(HasSubstr("identity.crt runs out on"), HasSubstr("in 9 days")));
  clock_.let_pass(11);
  ASSERT_TRUE(pump_.run_until([&] { return !refused_.empty(); }));
  EXPECT_THAT(refused_[0], HasSubstr("expired"));
}

TEST(AddressGate, CountsTokensPerAddress) {
  TlsLimits limits;
  AddressGate gate(limits);
  int in = 0;
  for (int i = 0; i < 30; ++i) {
    if (!gate.admit("a", 100)) continue;
    ++in;
    gate.settled("a");
  }
  EXPECT_EQ(in, 20);
  EXPECT_TRUE(gate.admit("b", 100));
  const auto news = gate.news("a", 100);
  ASSERT_TRUE(news);
  EXPECT_EQ(news->line(),
            "a: 10 connections closed at once; more than 10 new connections a second; find out "
            "what runs there");
  EXPECT_FALSE(gate.admit("a", 100.05));
  EXPECT_TRUE(gate.admit("a", 100.15)) << "who is refused pays nothing";
  gate.settled("a");
  EXPECT_FALSE(gate.news("a", 101)) << "once a minute";
  EXPECT_TRUE(gate.admit("a", 101));
  EXPECT_TRUE(gate.news("a", 161));
}

TEST(AddressGate, LimitsThoseWhoHaveNotSaidWhoTheyAre) {
  TlsLimits limits;
  limits.unknown_max = 6;
  AddressGate gate(limits);
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(gate.admit("a", 1));
  EXPECT_FALSE(gate.admit("a", 1));
  EXPECT_TRUE(gate.admit("b", 1));
  EXPECT_TRUE(gate.admit("c", 1));
  EXPECT_FALSE(gate.admit("d", 1));
  gate.settled("a");
  EXPECT_TRUE(gate.admit("d", 1));
}

TEST(AddressGate, ForgetsTheQuiet) {
  AddressGate gate(TlsLimits{});
  for (int i = 0; i < 10000; ++i) {
    const std::string address = std::to_string(i);
    EXPECT_TRUE(gate.admit(address, i));
    gate.settled(address);
  }
  EXPECT_LT(gate.known_addresses(), 200u);
}

}  // namespace
}  // namespace strata::transport

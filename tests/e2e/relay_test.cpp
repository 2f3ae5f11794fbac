// What tests/support/relay.h promises. Times are compared with lower bounds only: a busy machine
// may be as late as it likes.
#include "support/relay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>

namespace strata {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using support::Relay;
using support::RelayOptions;

class RelayTest : public testing::Test {
 protected:
  struct Pair {
    tcp::socket caller;
    tcp::socket target;
  };

  std::unique_ptr<Relay> relay(RelayOptions options = {}) {
    options.target = "127.0.0.1:" + std::to_string(target_.local_endpoint().port());
    return std::make_unique<Relay>(std::move(options));
  }
  tcp::socket call(const Relay& relay) {
    tcp::socket out(io_);
    const std::string& at = relay.address();
    out.connect({asio::ip::make_address("127.0.0.1"),
                 static_cast<std::uint16_t>(std::stoi(at.substr(at.rfind(':') + 1)))});
    return out;
  }
  Pair connect(const Relay& relay) {
    tcp::socket caller = call(relay);
    return {std::move(caller), target_.accept()};
  }
  static void send(tcp::socket& socket, const std::string& text) {
    asio::write(socket, asio::buffer(text));
  }
  static std::string receive(tcp::socket& socket, std::size_t size) {
    std::string out(size, '\0');
    asio::read(socket, asio::buffer(out));
    return out;
  }
  /// What reading comes to: no error while nothing has come.
  static error_code state_of(tcp::socket& socket) {
    char byte = 0;
    error_code error;
    socket.non_blocking(true);
    socket.receive(asio::buffer(&byte, 1), tcp::socket::message_peek, error);
    socket.non_blocking(false);
    return error == asio::error::would_block ? error_code{} : error;
  }
  /// Waits for an end of the connection.
  static error_code end_of(tcp::socket& socket) {
    char byte = 0;
    error_code error;
    while (!error) socket.read_some(asio::buffer(&byte, 1), error);
    return error;
  }
  static std::string letters(std::size_t size) {
    std::string out(size, '\0');
    for (std::size_t i = 0; i < size; ++i) out[i] = static_cast<char>('a' + (i * i / 7 + i) % 26);
    return out;
  }
  static void rest(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); }
  [[nodiscard]] double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun_).count();
  }

  asio::io_context io_;
  tcp::acceptor target_{io_, {asio::ip::make_address("127.0.0.1"), 0}};
  std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
};

TEST_F(RelayTest, BytesArriveCompleteAndInOrderInBothDirections) {
  const auto one = relay({.up = {.delay_ms = 1, .loss = 0.05, .retransmit_ms = 5},
                          .down = {.bytes_per_s_max = 20e6, .loss = 0.02, .retransmit_ms = 2},
                          .queued_bytes_max = 5000});
  Pair ends = connect(*one);
  const std::string up = letters(400'000);
  const std::string down = letters(300'001);
  std::thread caller([&] {
    std::thread writer([&] { send(ends.caller, up); });
    EXPECT_TRUE(receive(ends.caller, down.size()) == down);
    writer.join();
  });
  std::thread writer([&] { send(ends.target, down); });
  EXPECT_TRUE(receive(ends.target, up.size()) == up);
  caller.join();
  writer.join();
  const auto counts = one->counts();
  EXPECT_EQ(counts.connections, 1u);
  EXPECT_EQ(counts.up_bytes, up.size());
  EXPECT_EQ(counts.down_bytes, down.size());
  EXPECT_GT(counts.lost_segments, 0u);
  EXPECT_GT(counts.queued_bytes_most, 0u);
  EXPECT_LE(counts.queued_bytes_most, 5000u);
}

TEST_F(RelayTest, ABytesWayTakesTheDelayOfItsDirection) {
  const auto one = relay({.up = {.delay_ms = 60}, .down = {.delay_ms = 30}});
  Pair ends = connect(*one);
  for (int i = 1; i <= 2; ++i) {
    send(ends.caller, "to");
    receive(ends.target, 2);
    EXPECT_GE(seconds(), i * 0.06 + (i - 1) * 0.03);
    send(ends.target, "fro");
    receive(ends.caller, 3);
    EXPECT_GE(seconds(), i * 0.09);
  }
}

TEST_F(RelayTest, NoMoreThanTheBandwidthPasses) {
  const auto one = relay({.up = {.bytes_per_s_max = 1e6}});
  Pair ends = connect(*one);
  std::thread writer([&] { send(ends.caller, letters(300'000)); });
  for (int i = 1; i <= 3; ++i) {
    receive(ends.target, 100'000);
    EXPECT_GE(seconds(), i * 0.1);
  }
  writer.join();
}

TEST_F(RelayTest, ALostSegmentIsLateAndHoldsUpThoseBehindIt) {
  const auto one = relay({.up = {.loss = 1, .retransmit_ms = 80}});
  Pair ends = connect(*one);
  send(ends.caller, letters(10));
  receive(ends.target, 10);
  EXPECT_GE(seconds(), 0.08);
  EXPECT_EQ(one->counts().lost_segments, 1u);
}

TEST_F(RelayTest, WhileCutNothingPassesAndHealedItGoesOn) {
  const auto one = relay({.up = {.delay_ms = 10}});
  Pair ends = connect(*one);
  send(ends.caller, "before");
  EXPECT_EQ(receive(ends.target, 6), "before");
  send(ends.caller, "under way, ");
  one->cut();
  send(ends.caller, "sent, ");
  send(ends.target, "an answer");
  tcp::socket fresh = call(*one);
  send(fresh, "hello");
  rest(150);
  EXPECT_EQ(ends.target.available(), 0u);
  EXPECT_EQ(ends.caller.available(), 0u);
  EXPECT_FALSE(state_of(ends.target));
  EXPECT_FALSE(state_of(fresh));
  target_.non_blocking(true);
  error_code error;
  target_.accept(error);
  EXPECT_EQ(error, asio::error::would_block);
  target_.non_blocking(false);
  one->heal();
  send(ends.caller, "and after");
  EXPECT_EQ(receive(ends.target, 26), "under way, sent, and after");
  EXPECT_EQ(receive(ends.caller, 9), "an answer");
  tcp::socket other = target_.accept();
  EXPECT_EQ(receive(other, 5), "hello");
}

TEST_F(RelayTest, AnEndComesAfterTheBytesAndTheOtherDirectionGoesOn) {
  const auto one = relay({.up = {.delay_ms = 30}});
  Pair ends = connect(*one);
  send(ends.caller, "the last");
  ends.caller.shutdown(tcp::socket::shutdown_send);
  EXPECT_EQ(receive(ends.target, 8), "the last");
  EXPECT_EQ(end_of(ends.target), asio::error::eof);
  send(ends.target, "the answer");
  EXPECT_EQ(receive(ends.caller, 10), "the answer");
  ends.target.close();
  EXPECT_EQ(end_of(ends.caller), asio::error::eof);
}

TEST_F(RelayTest, AResetOfOneSideReachesTheOther) {
  const auto one = relay();
  Pair ends = connect(*one);
  ends.caller.set_option(tcp::socket::linger(true, 0));
  ends.caller.close();
  EXPECT_EQ(end_of(ends.target), asio::error::connection_reset);
}

TEST_F(RelayTest, ResetIsSeenAtBothEndsCutOrNot) {
  const auto one = relay();
  for (const bool cut : {false, true}) {
    Pair ends = connect(*one);
    if (cut) one->cut();
    one->reset();
    EXPECT_EQ(end_of(ends.target), asio::error::connection_reset);
    EXPECT_EQ(end_of(ends.caller), asio::error::connection_reset);
    one->heal();
  }
  EXPECT_EQ(one->counts().connections, 2u);
}

TEST_F(RelayTest, StrandedTheTargetHearsNothing) {
  const auto one = relay();
  Pair ends = connect(*one);
  send(ends.caller, "here");
  EXPECT_EQ(receive(ends.target, 4), "here");
  one->strand();
  EXPECT_EQ(end_of(ends.caller), asio::error::connection_reset);
  send(ends.target, "anybody there?");
  rest(100);
  EXPECT_FALSE(state_of(ends.target));
  Pair again = connect(*one);
  send(again.caller, "yes");
  EXPECT_EQ(receive(again.target, 3), "yes");
  one->reset();
  EXPECT_EQ(end_of(ends.target), asio::error::connection_reset);
}

TEST_F(RelayTest, ATargetThatDoesNotListenIsAResetCall) {
  const auto one = relay();
  target_.close();
  tcp::socket caller = call(*one);
  EXPECT_EQ(end_of(caller), asio::error::connection_reset);
}

TEST_F(RelayTest, AddressesThatAreNoneAreRefusedByName) {
  const auto refusal = [](RelayOptions options) -> std::string {
    try {
      Relay relay(std::move(options));
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(refusal({.target = "127.0.0.1"}), testing::HasSubstr("not 127.0.0.1"));
  EXPECT_THAT(refusal({.target = "host:80"}), testing::HasSubstr("not host:80"));
  EXPECT_THAT(refusal({.target = "127.0.0.1:x"}), testing::HasSubstr("not 127.0.0.1:x"));
  EXPECT_THAT(refusal({.target = "127.0.0.1:1", .listen = "203.0.113.1"}),
              testing::HasSubstr("cannot listen on 203.0.113.1"));
}

}  // namespace
}  // namespace strata

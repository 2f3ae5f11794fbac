#include "transport/tls_session.h"

#include <fmt/format.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <sys/socket.h>

#include <boost/asio/connect.hpp>
#include <cerrno>

namespace strata::transport {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

constexpr double kDrainSeconds = 2;

Error peer_error(const std::string& where, std::string what, std::string remedy = {}) {
  return {.code = ErrorCode::kPeer,
          .what = std::move(what),
          .where = where,
          .remedy = std::move(remedy)};
}

// A peer that answers nothing is gone after `seconds`, which the system alone finds out in 15
// minutes; and small frames go out at once.
void set_socket(int socket, double seconds) {
  const int on = 1;
  const auto ms = static_cast<unsigned>(seconds * 1000);
  ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ::setsockopt(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms);
}

}  // namespace

std::string address_text(const tcp::endpoint& endpoint) {
  const std::string host = endpoint.address().to_string();
  return endpoint.address().is_v6() ? fmt::format("[{}]:{}", host, endpoint.port())
                                    : fmt::format("{}:{}", host, endpoint.port());
}

TlsSession::TlsSession(TlsSetup setup)
    : setup_(std::move(setup)), door_(setup_.io->door()), since_(setup_.clock->seconds()) {
  check_.context = setup_.context;
  check_.clock = setup_.clock;
}

void TlsSession::accepted(tcp::socket socket, std::string address) {
  socket_.emplace(std::move(socket));
  address_ = std::move(address);
  secure();
}

void TlsSession::dial() {
  const bool six = setup_.host.find(':') != std::string::npos;
  address_ = (six ? "[" + setup_.host + "]" : setup_.host) + ":" + setup_.port;
  resolver_ = std::make_unique<tcp::resolver>(setup_.io->context());
  auto found = [self = shared_from_this()](const boost::system::error_code& error,
                                           const tcp::resolver::results_type& addresses) {
    if (self->stage_ != Stage::kConnecting) return;
    if (error) {
      self->end(peer_error(self->address_, "the host is not found: " + error.message(),
                           "check the name of the coordinator's machine"));
      return;
    }
    self->connect(addresses);
  };
  auto flags = tcp::resolver::numeric_service;
  if (certs::is_ip_address(setup_.host)) flags = flags | tcp::resolver::numeric_host;
  resolver_->async_resolve(setup_.host, setup_.port, flags, std::move(found));
}

void TlsSession::connect(const tcp::resolver::results_type& found) {
  socket_.emplace(setup_.io->context());
  asio::async_connect(
      *socket_, found,
      [self = shared_from_this()](const boost::system::error_code& error,
                                  const tcp::endpoint& endpoint) {
        if (self->stage_ != Stage::kConnecting) return;
        if (error) {
          self->end(peer_error(self->address_, "cannot be reached: " + error.message(),
                               "is the coordinator running, and does a firewall stand between"));
          return;
        }
        self->address_ = address_text(endpoint);
        self->secure();
      });
}

void TlsSession::secure() {
  boost::system::error_code ignored;
  socket_->non_blocking(true, ignored);
  set_socket(socket_->native_handle(), setup_.limits.dead_s);
  check_.where = address_;
  ssl_ = setup_.context->connection(socket_->native_handle(), setup_.host, check_);
  stage_ = Stage::kHandshake;
  since_ = now();
  if (!ssl_) {
    end({.code = ErrorCode::kInternal, .what = "no TLS: " + certs::drain_errors()}, true);
    return;
  }
  shake();
}

// What a socket is ready for depends on the stage only.
void TlsSession::proceed() {
  switch (stage_) {
    case Stage::kHandshake:
      shake();
      break;
    case Stage::kGreeting:
    case Stage::kOpen:
      read_some();
      break;
    case Stage::kFlushing:
    case Stage::kDraining:
      drain();
      break;
    case Stage::kConnecting:
    case Stage::kDone:
      break;
  }
}

void TlsSession::wait_read() {
  if (reading_ || !is_connected()) return;
  reading_ = true;
  socket_->async_wait(tcp::socket::wait_read, [self = shared_from_this()](auto error) {
    self->reading_ = false;
    if (!error) self->proceed();
  });
}

void TlsSession::wait_write() {
  if (writing_ || !is_connected()) return;
  writing_ = true;
  socket_->async_wait(tcp::socket::wait_write, [self = shared_from_this()](auto error) {
    self->writing_ = false;
    if (error) return;
    if (self->stage_ == Stage::kHandshake)
      self->shake();
    else
      self->flush();
  });
}

void TlsSession::shake() {
  ERR_clear_error();
  const int result = SSL_do_handshake(ssl_.get());
  if (result == 1) {
    shaken();
    return;
  }
  const int number = errno;
  const int why = SSL_get_error(ssl_.get(), result);
  if (why == SSL_ERROR_WANT_READ) return wait_read();
  if (why == SSL_ERROR_WANT_WRITE) return wait_write();
  const auto stage = setup_.dials ? TlsStage::kDialing : TlsStage::kAccepting;
  Error error =
      tls_error(stage, why, why == SSL_ERROR_SYSCALL && result < 0 ? number : 0, address_);
  if (check_.refused) error = *check_.refused;
  end(std::move(error));
}

void TlsSession::shaken() {
  auto peer = TlsContext::judge(*ssl_, check_);
  if (!peer) return end(std::move(peer).error());
  since_ = said_ = heard_ = took_ = now();
  if (setup_.dials) {
    // A coordinator has proved its role; and what it sends after its first frame may arrive before
    // anybody here could call trust().
    trusted_ = true;
    stage_ = Stage::kGreeting;
  } else {
    open();
    say(kPing);
  }
  read_some();
}

void TlsSession::open() {
  stage_ = Stage::kOpen;
  established_ = true;
  settle();
  setup_.link->opened(shared_from_this(),
                      {.id = check_.peer->id, .address = address_, .authenticated = true});
}

void TlsSession::tick(double now) {
  const TlsLimits& limits = setup_.limits;
  const double age = now - since_;
  switch (stage_) {
    case Stage::kConnecting:
      if (age > limits.connect_s)
        end(peer_error(address_, fmt::format("cannot be reached within {:g} s", limits.connect_s),
                       "is the coordinator running, and does a firewall stand between"),
            true);
      break;
    case Stage::kHandshake:
      if (age > limits.handshake_s)
        end(peer_error(address_,
                       fmt::format("has not said who it is within {:g} s", limits.handshake_s)),
            true);
      break;
    case Stage::kGreeting:
      if (age > limits.first_frame_s)
        end(peer_error(address_, fmt::format("the coordinator has said nothing within {:g} s",
                                             limits.first_frame_s)),
            true);
      break;
    case Stage::kOpen:
      check_open(now);
      break;
    case Stage::kFlushing:
      if (age > limits.close_s) finish();
      break;
    case Stage::kDraining:
      if (age > kDrainSeconds) finish();
      break;
    case Stage::kDone:
      break;
  }
}

void TlsSession::check_open(double now) {
  const TlsLimits& limits = setup_.limits;
  if (!trusted_ && !heard_frame_ && now - since_ > limits.first_frame_s) {
    return end(peer_error(
        address_, fmt::format("has sent no whole frame within {:g} s", limits.first_frame_s)));
  }
  if (outbox_.empty()) took_ = now;
  if (now - took_ > limits.dead_s) {
    return end(peer_error(address_, fmt::format("has taken no byte for {:g} s", limits.dead_s)),
               true);
  }
  if (!paused_ && now - heard_ > limits.dead_s) {
    return end(peer_error(address_, fmt::format("has been silent for {:g} s", limits.dead_s)),
               true);
  }
  if (!paused_ && reader_.inside_frame() && now - rate_since_ >= limits.rate_window_s) {
    const double rate = static_cast<double>(rate_bytes_) / (now - rate_since_);
    if (rate < limits.rate_bytes_per_s) {
      return end(
          peer_error(address_, fmt::format("sends a frame at {:.0f} bytes a second; {:.0f} "
                                           "are needed on the average of {:g} s",
                                           rate, limits.rate_bytes_per_s, limits.rate_window_s)),
          true);
    }
    restart_rate();
  }
  if (now - said_ >= limits.heartbeat_s && outbox_.empty()) say(kPing);
}

void TlsSession::recheck(const TlsContext& context) {
  // Begun under the old files, it would be judged by them.
  if (stage_ == Stage::kHandshake)
    return end(peer_error(address_, "the certificates were renewed in the meantime"), true);
  if (stage_ != Stage::kOpen) return;
  const certs::CertificatePtr peer(SSL_get1_peer_certificate(ssl_.get()));
  if (auto sound = context.recheck(*peer, address_); !sound) end(std::move(sound).error());
}

void TlsSession::end(Error why, bool abruptly) {
  if (stage_ >= Stage::kFlushing) {
    if (abruptly) finish();
    return;
  }
  if (established_)
    setup_.link->ended(std::move(why));
  else
    setup_.link->failed(std::move(why));
  over_ = true;
  if (abruptly || !is_connected() || !ssl_) return finish();
  if (stage_ >= Stage::kGreeting && SSL_is_init_finished(ssl_.get()) != 0) {
    ERR_clear_error();
    SSL_shutdown(ssl_.get());
    ERR_clear_error();
  }
  farewell();
}

// Our side is shut; the rest is the peer's.
void TlsSession::farewell() {
  outbox_.clear();
  stage_ = Stage::kDraining;
  since_ = now();
  boost::system::error_code ignored;
  socket_->shutdown(tcp::socket::shutdown_send, ignored);
  drain();
}

void TlsSession::drain() {
  if (!is_connected()) return;
  const auto room = setup_.io->scratch();
  for (int i = 0; i < 64; ++i) {
    const ssize_t n = ::recv(socket_->native_handle(), room.data(), room.size(), MSG_DONTWAIT);
    if (n > 0) continue;
    const bool more = n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR);
    if (more) return wait_read();
    if (stage_ == Stage::kFlushing) over_ = true;
    return finish();
  }
  wait_read();
}

void TlsSession::begin_close() {
  if (stage_ == Stage::kGreeting || stage_ == Stage::kOpen) {
    stage_ = Stage::kFlushing;
    since_ = now();
    flush();
    // What comes is thrown away from now on; while nobody reads, a peer could not go on either.
    if (stage_ == Stage::kFlushing) drain();
  }
}

void TlsSession::abandon() {
  if (!established_ || stage_ < Stage::kFlushing) finish();
}

void TlsSession::settle() {
  if (std::exchange(settled_, true) || !setup_.settled) return;
  setup_.settled();
}

void TlsSession::finish() {
  over_ = true;
  stage_ = Stage::kDone;
  settle();
  if (resolver_) resolver_->cancel();
  resolver_.reset();
  ssl_.reset();
  // Closed, not destroyed: an attempt to connect that is under way still refers to it.
  boost::system::error_code ignored;
  if (socket_) socket_->close(ignored);
  outbox_.clear();
}

}  // namespace strata::transport

// TlsSession's bytes: frames in and out of an open connection.
#include <openssl/err.h>

#include <cerrno>

#include "transport/tls_session.h"

namespace strata::transport {
namespace {

// Frames up to this size are copied into one piece; larger payloads go as they lie.
constexpr std::size_t kWholeBytesMax = 16384;
// What one connection may read or write before the others have their turn.
constexpr std::size_t kTurnBytes = std::size_t{1} << 20;

std::size_t bytes_of(const wire::Frame& frame) {
  return wire::kHeaderBytes + frame.payload.size() + wire::kTrailerBytes;
}

}  // namespace

void TlsSession::send(wire::Frame frame) {
  if (over_) return;
  const std::size_t bytes = bytes_of(frame);
  const std::size_t queued = unsent_.fetch_add(bytes) + bytes;
  const std::size_t most = setup_.limits.outbox_bytes_max;
  if (queued > most && queued > bytes) {
    door_->post([self = shared_from_this(), most] {
      self->end({.code = ErrorCode::kPeer,
                 .what = "takes frames too slowly: more than " + std::to_string(most) +
                         " bytes wait for it",
                 .where = self->address_},
                true);
    });
    return;
  }
  // asio moves its functions; the frame need not be copyable.
  door_->post([self = shared_from_this(), frame = std::move(frame)]() mutable {
    self->enqueue(std::move(frame));
  });
}

// A flag and no message: what the peer sends once it has seen what we do next must find it set.
void TlsSession::trust() { trusted_ = true; }

void TlsSession::close() {
  if (over_) return;
  door_->post([self = shared_from_this()] { self->begin_close(); });
}

void TlsSession::handled(std::size_t bytes) {
  const std::size_t half = setup_.limits.inbox_bytes_max / 2;
  const std::size_t before = inbox_.fetch_sub(bytes);
  if (before > half && before - bytes <= half)
    door_->post([self = shared_from_this()] { self->resume(); });
}

void TlsSession::resume() {
  if (!paused_) return;
  paused_ = false;
  heard_ = now();  // the silence was ours
  restart_rate();
  read_some();
}

void TlsSession::enqueue(wire::Frame frame) {
  if (stage_ != Stage::kOpen) {
    unsent_ -= bytes_of(frame);
    return;
  }
  frame.header.sequence = sequence_++;
  if (frame.payload.size() <= kWholeBytesMax) {
    outbox_.push_back(wire::encode(frame));
  } else {
    const wire::FrameEnds ends = wire::encode_ends(frame);
    outbox_.emplace_back(ends.head.begin(), ends.head.end());
    outbox_.push_back(std::move(frame.payload));
    outbox_.emplace_back(ends.tail.begin(), ends.tail.end());
  }
  flush();
}

void TlsSession::say(std::uint16_t type) {
  wire::Frame frame;
  frame.header.type = type;
  unsent_ += bytes_of(frame);
  enqueue(std::move(frame));
}

void TlsSession::flush() {
  if (writing_ || !ssl_ || (stage_ != Stage::kOpen && stage_ != Stage::kFlushing)) return;
  std::size_t turn = 0;
  while (!outbox_.empty()) {
    if (turn > kTurnBytes) {
      wait_write();  // it is ready at once, after the others
      return;
    }
    const std::size_t n = write_once();
    if (n == 0) return;
    turn += n;
  }
  if (stage_ != Stage::kFlushing) return;
  over_ = true;
  ERR_clear_error();
  SSL_shutdown(ssl_.get());
  ERR_clear_error();
  farewell();
}

std::size_t TlsSession::write_once() {
  const Bytes& first = outbox_.front();
  std::size_t n = 0;
  ERR_clear_error();
  const int result = SSL_write_ex(ssl_.get(), first.data() + written_, first.size() - written_, &n);
  if (result == 1) {
    unsent_ -= n;
    written_ += n;
    said_ = took_ = now();
    if (written_ == first.size()) {
      outbox_.pop_front();
      written_ = 0;
    }
    return n;
  }
  const int number = errno;
  const int why = SSL_get_error(ssl_.get(), result);
  if (why == SSL_ERROR_WANT_WRITE) {
    wait_write();
  } else if (why == SSL_ERROR_WANT_READ) {
    wait_read();
  } else if (stage_ == Stage::kFlushing) {
    finish();
  } else {
    // What the peer said before it went is a better reason. Later, for this may be in the middle of
    // taking in what was read.
    door_->post(
        [self = shared_from_this(),
         error = tls_error(TlsStage::kOpen, why, why == SSL_ERROR_SYSCALL ? number : 0, address_)] {
          self->read_some();
          if (self->stage_ == Stage::kOpen) self->end(error, true);
        });
  }
  return 0;
}

void TlsSession::read_some() {
  std::size_t turn = 0;
  while ((stage_ == Stage::kOpen || stage_ == Stage::kGreeting) && !paused_) {
    if (turn++ > kTurnBytes / SSL3_RT_MAX_PLAIN_LENGTH) {
      // Some of it may lie in OpenSSL already, where no socket would wake us for it.
      door_->post([self = shared_from_this()] { self->read_some(); });
      return;
    }
    if (!read_once()) return;
  }
}

bool TlsSession::read_once() {
  const auto room = setup_.io->scratch();
  std::size_t n = 0;
  ERR_clear_error();
  const int result = SSL_read_ex(ssl_.get(), room.data(), room.size(), &n);
  if (result == 1) {
    heard_ = now();
    return take_in(room.first(n));
  }
  const int number = errno;
  const int why = SSL_get_error(ssl_.get(), result);
  if (why == SSL_ERROR_WANT_READ) {
    wait_read();
  } else if (why == SSL_ERROR_WANT_WRITE) {
    wait_write();
  } else if (why == SSL_ERROR_ZERO_RETURN) {
    const bool inside = reader_.inside_frame();
    end({.code = ErrorCode::kPeer,
         .what = inside ? "stream truncated: the other side closed the connection within a frame"
                        : "the other side closed the connection",
         .where = address_});
  } else {
    const auto stage = stage_ == Stage::kGreeting ? TlsStage::kGreeting : TlsStage::kOpen;
    end(tls_error(stage, why, why == SSL_ERROR_SYSCALL ? number : 0, address_));
  }
  return false;
}

bool TlsSession::take_in(ByteSpan bytes) {
  rate_bytes_ += bytes.size();
  while (!bytes.empty()) {
    const bool begins = !reader_.inside_frame();
    if (begins) restart_rate();
    if (trusted_) reader_.trust();
    auto frame = reader_.take(bytes);
    if (!frame) {
      Error error = std::move(frame).error();
      error.where = address_ + ": " + error.where;
      end(std::move(error));
      return false;
    }
    if (*frame) take_frame(std::move(**frame));
    if (stage_ != Stage::kOpen && stage_ != Stage::kGreeting) return false;
  }
  return true;
}

void TlsSession::take_frame(wire::Frame frame) {
  const std::uint16_t type = frame.header.type;
  if (type == kPing || type == kPong) {
    if (!frame.payload.empty()) {
      return end(
          {.code = ErrorCode::kProtocol, .what = "a heartbeat has a payload", .where = address_});
    }
    if (stage_ == Stage::kGreeting) open();
    // With something queued it hears of us anyway; and who pings without reading fills no memory.
    if (type == kPing && outbox_.empty()) say(kPong);
    return;
  }
  if (stage_ == Stage::kGreeting) open();
  heard_frame_ = true;
  const std::size_t bytes = bytes_of(frame);
  const std::size_t most = setup_.limits.inbox_bytes_max;
  if (inbox_.fetch_add(bytes) + bytes > most) paused_ = true;
  setup_.link->received(shared_from_this(), std::move(frame), bytes);
  // Handled in the meantime, perhaps: then nobody would wake us.
  if (paused_ && inbox_ <= most / 2) paused_ = false;
}

}  // namespace strata::transport

#include "transport/tls_link.h"

#include "transport/tls_session.h"

namespace strata::transport {
namespace {

class TlsConnection final : public Connection {
 public:
  TlsConnection(std::shared_ptr<TlsLink> link, std::shared_ptr<TlsSession> session, Peer peer)
      : link_(std::move(link)), session_(std::move(session)), peer_(std::move(peer)) {}
  ~TlsConnection() override { end(); }
  TlsConnection(const TlsConnection&) = delete;
  TlsConnection& operator=(const TlsConnection&) = delete;

  const Peer& peer() const override { return peer_; }
  void send(wire::Frame frame) override {
    check(frame.header.type != kPing && frame.header.type != kPong,
          "frame types 1 and 2 are the transport's own");
    session_->send(std::move(frame));
  }
  std::size_t unsent_bytes() const override { return session_->unsent_bytes(); }
  void trust() override { session_->trust(); }
  void close() override { end(); }

 private:
  void end() {
    link_->forget_handler();
    session_->close();
  }

  std::shared_ptr<TlsLink> link_;
  std::shared_ptr<TlsSession> session_;
  Peer peer_;
};

}  // namespace

void TlsLink::opened(std::shared_ptr<TlsSession> session, Peer peer) {
  executor_.post(
      [self = shared_from_this(), session = std::move(session), peer = std::move(peer)]() mutable {
        if (!self->hearing_->alive || self->handler_ == nullptr) return;
        const auto connection =
            std::make_shared<TlsConnection>(self, std::move(session), std::move(peer));
        self->connection_ = connection;
        self->handler_->on_open(connection);
      });
}

void TlsLink::received(std::shared_ptr<TlsSession> session, wire::Frame frame, std::size_t bytes) {
  // std::function wants copyable tasks.
  auto held = std::make_shared<wire::Frame>(std::move(frame));
  executor_.post([self = shared_from_this(), session = std::move(session), held, bytes] {
    const auto connection = self->connection_.lock();
    if (self->hearing_->alive && connection && self->handler_ != nullptr)
      self->handler_->on_frame(*connection, std::move(*held));
    session->handled(bytes);
  });
}

void TlsLink::ended(Error why) {
  executor_.post([self = shared_from_this(), why = std::move(why)] {
    const auto connection = self->connection_.lock();
    Handler* handler = std::exchange(self->handler_, nullptr);
    if (self->hearing_->alive && connection && handler != nullptr)
      handler->on_end(*connection, why);
  });
}

void TlsLink::failed(Error why) {
  executor_.post([self = shared_from_this(), why = std::move(why)] {
    if (self->hearing_->alive && self->failed_) self->failed_(why);
  });
}

}  // namespace strata::transport

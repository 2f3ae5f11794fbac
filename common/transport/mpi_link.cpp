#include "transport/mpi_link.h"

namespace strata::transport {
namespace {

class MpiConnection final : public Connection {
 public:
  MpiConnection(std::shared_ptr<MpiLink> link, MpiWires wires, Peer peer)
      : link_(std::move(link)), wires_(std::move(wires)), peer_(std::move(peer)) {}
  ~MpiConnection() override { end(); }
  MpiConnection(const MpiConnection&) = delete;
  MpiConnection& operator=(const MpiConnection&) = delete;

  const Peer& peer() const override { return peer_; }
  void send(wire::Frame frame) override {
    check(frame.header.type != kPing && frame.header.type != kPong,
          "frame types 1 and 2 are the transport's own");
    if (closed_ || wires_.meter->over) return;
    wires_.meter->unsent += frame.payload.size();
    wires_.send(std::move(frame));
  }
  std::size_t unsent_bytes() const override {
    return wires_.meter->over ? 0 : wires_.meter->unsent.load();
  }
  void trust() override {}  // who shares a job has nothing to prove
  void close() override { end(); }

 private:
  void end() {
    if (std::exchange(closed_, true)) return;
    link_->forget_handler();
    wires_.close();
  }

  std::shared_ptr<MpiLink> link_;
  MpiWires wires_;
  Peer peer_;
  bool closed_ = false;
};

}  // namespace

void MpiLink::opened(MpiWires wires, Peer peer) {
  executor_->post(
      [self = shared_from_this(), wires = std::move(wires), peer = std::move(peer)]() mutable {
        if (!self->hearing_->alive || self->handler_ == nullptr) return wires.close();
        const auto connection =
            std::make_shared<MpiConnection>(self, std::move(wires), std::move(peer));
        self->connection_ = connection;
        self->handler_->on_open(connection);
      });
}

void MpiLink::received(wire::Frame frame, std::shared_ptr<MpiShare> share) {
  // std::function wants copyable tasks.
  auto held = std::make_shared<wire::Frame>(std::move(frame));
  executor_->post([self = shared_from_this(), held, share = std::move(share)] {
    const auto connection = self->connection_.lock();
    if (self->hearing_->alive && connection && self->handler_ != nullptr)
      self->handler_->on_frame(*connection, std::move(*held));
  });
}

void MpiLink::ended(Error why) {
  executor_->post([self = shared_from_this(), why = std::move(why)] {
    const auto connection = self->connection_.lock();
    Handler* handler = std::exchange(self->handler_, nullptr);
    if (self->hearing_->alive && connection && handler != nullptr)
      handler->on_end(*connection, why);
  });
}

void MpiLink::failed(Error why) {
  executor_->post([self = shared_from_this(), why = std::move(why)] {
    if (self->hearing_->alive && self->failed_) self->failed_(why);
  });
}

}  // namespace strata::transport

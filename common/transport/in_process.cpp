#include "transport/in_process.h"

#include <utility>

namespace strata::transport {
namespace {

// What the two ends of a connection share: who listens at each, and whether it still lasts.
struct Wire {
  explicit Wire(sys::Executor& e) : executor(e) {}
  sys::Executor& executor;
  struct End {
    Handler* handler = nullptr;
    std::weak_ptr<Connection> connection;
    Peer peer;  // seen from this end
    std::uint64_t sequence = 0;
  };
  End ends[2];
  bool open = true;
};

class WireEnd final : public Connection {
 public:
  WireEnd(std::shared_ptr<Wire> wire, int side) : wire_(std::move(wire)), side_(side) {}
  ~WireEnd() override { close(); }
  WireEnd(const WireEnd&) = delete;
  WireEnd& operator=(const WireEnd&) = delete;

  const Peer& peer() const override { return wire_->ends[side_].peer; }
  std::size_t unsent_bytes() const override { return 0; }
  void trust() override {}

  void send(wire::Frame frame) override {
    if (!wire_->open) return;
    frame.header.length = frame.payload.size();
    frame.header.sequence = wire_->ends[side_].sequence++;
    // std::function wants copyable tasks.
    auto held = std::make_shared<wire::Frame>(std::move(frame));
    wire_->executor.post([wire = wire_, to = 1 - side_, held] {
      auto connection = wire->ends[to].connection.lock();
      if (connection && wire->ends[to].handler != nullptr)
        wire->ends[to].handler->on_frame(*connection, std::move(*held));
    });
  }

  void close() override {
    wire_->ends[side_].handler = nullptr;
    if (!std::exchange(wire_->open, false)) return;
    wire_->executor.post([wire = wire_, to = 1 - side_] {
      auto connection = wire->ends[to].connection.lock();
      Handler* handler = std::exchange(wire->ends[to].handler, nullptr);
      if (connection && handler != nullptr) {
        handler->on_end(*connection,
                        {.code = ErrorCode::kPeer, .what = "the other side closed the connection"});
      }
    });
  }

 private:
  std::shared_ptr<Wire> wire_;
  int side_;
};

}  // namespace

struct InProcess::Hub {
  explicit Hub(sys::Executor& e) : executor(e) {}
  sys::Executor& executor;
  Handler* handler = nullptr;  // of the listener
};

namespace {

class HubListener final : public Listener {
 public:
  HubListener(Handler*& handler, std::shared_ptr<void> hub)
      : handler_(handler), hub_(std::move(hub)) {}
  ~HubListener() override { handler_ = nullptr; }
  HubListener(const HubListener&) = delete;
  HubListener& operator=(const HubListener&) = delete;
  Result<void> listen(Handler& handler) override {
    handler_ = &handler;
    return {};
  }
  void stop() override { handler_ = nullptr; }
  std::string address() const override { return "this process"; }

 private:
  Handler*& handler_;
  std::shared_ptr<void> hub_;
};

class HubDialer final : public Dialer {
 public:
  HubDialer(sys::Executor& executor, Handler*& listening, std::shared_ptr<void> hub, std::string id)
      : executor_(executor), listening_(listening), hub_(std::move(hub)), id_(std::move(id)) {}

  void dial(Handler& handler, std::function<void(const Error&)> failed) override {
    executor_.post([this, alive = std::weak_ptr(alive_), &handler, failed = std::move(failed)] {
      if (alive.expired()) return;  // the dialer is gone, and its news with it
      if (listening_ == nullptr) {
        failed({.code = ErrorCode::kPeer, .what = "nobody listens in this process"});
        return;
      }
      auto wire = std::make_shared<Wire>(executor_);
      auto here = std::make_shared<WireEnd>(wire, 0);
      auto there = std::make_shared<WireEnd>(wire, 1);
      wire->ends[0] = {&handler, here, {.id = "coordinator", .address = "this process"}};
      wire->ends[1] = {listening_, there, {.id = id_, .address = "this process"}};
      listening_->on_open(there);
      handler.on_open(here);
    });
  }

 private:
  sys::Executor& executor_;
  Handler*& listening_;
  std::shared_ptr<void> hub_;
  std::string id_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace

InProcess::InProcess(sys::Executor& executor) : hub_(std::make_shared<Hub>(executor)) {}
InProcess::~InProcess() = default;

std::unique_ptr<Listener> InProcess::listener() {
  return std::make_unique<HubListener>(hub_->handler, hub_);
}

std::unique_ptr<Dialer> InProcess::dialer(std::string id) {
  return std::make_unique<HubDialer>(hub_->executor, hub_->handler, hub_, std::move(id));
}

}  // namespace strata::transport

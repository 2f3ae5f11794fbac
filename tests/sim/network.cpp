#include "sim/network.h"

#include <algorithm>

#include "protocol/messages.h"

namespace strata::sim {

namespace {

constexpr double kHeartbeatTime = 45.0;
constexpr std::size_t kFrameBytes = wire::kHeaderBytes + wire::kTrailerBytes;

class SimConnection final : public transport::Connection {
 public:
  SimConnection(Network& net, std::shared_ptr<Network::Line> line, int side)
      : net_(net), line_(std::move(line)), side_(side) {}
  ~SimConnection() override { close(); }
  SimConnection(const SimConnection&) = delete;
  SimConnection& operator=(const SimConnection&) = delete;
  const transport::Peer& peer() const override { return line_->ends[side_].peer; }
  void send(wire::Frame frame) override { net_.send(line_, side_, std::move(frame)); }
  std::size_t unsent_bytes() const override { return line_->ends[side_].unsent; }
  void trust() override {}
  void close() override { net_.hang_up(line_, side_); }

 private:
  Network& net_;
  std::shared_ptr<Network::Line> line_;
  int side_;
};

}  // namespace

class SimListener final : public transport::Listener {
 public:
  SimListener(Network& net, ProcessExecutor& executor) : net_(net), executor_(executor) {}
  ~SimListener() override { stop(); }
  SimListener(const SimListener&) = delete;
  SimListener& operator=(const SimListener&) = delete;
  Result<void> listen(transport::Handler& handler) override {
    net_.listening_ = &handler;
    net_.listener_executor_ = &executor_;
    return {};
  }
  void stop() override {
    if (net_.listener_executor_ == &executor_) net_.listening_ = nullptr;
  }
  std::string address() const override { return "simulated"; }

 private:
  Network& net_;
  ProcessExecutor& executor_;
};

class SimDialer final : public transport::Dialer {
 public:
  SimDialer(Network& net, ProcessExecutor& executor, std::string id)
      : net_(net), executor_(executor), id_(std::move(id)) {}

  void dial(transport::Handler& handler, std::function<void(const Error&)> failed) override {
    executor_.after(net_.some_delay(), [this, &handler, failed = std::move(failed)] {
      if (net_.listening_ == nullptr || net_.cut.contains(id_)) {
        failed({.code = ErrorCode::kPeer, .what = "nobody answers"});
        return;
      }
      auto line = std::make_shared<Network::Line>();
      line->client = id_;
      auto here = std::make_shared<SimConnection>(net_, line, 0);
      auto there = std::make_shared<SimConnection>(net_, line, 1);
      line->ends[0] = {&executor_, {}, &handler, here, {.id = "coordinator", .address = "sim"}, 0};
      line->ends[1] = {net_.listener_executor_,       {}, net_.listening_, there,
                       {.id = id_, .address = "sim"}, 0};
      net_.lines_.push_back(line);
      std::erase_if(net_.lines_, [](const auto& l) { return l.expired(); });
      auto* listening = net_.listening_;
      net_.listener_executor_->at(net_.time_.seconds(),
                                  [listening, there] { listening->on_open(there); });
      handler.on_open(here);
    });
  }

 private:
  Network& net_;
  ProcessExecutor& executor_;
  std::string id_;
};

double Network::some_delay() { return faults.delay * draw_.uniform(0.1, 2.0); }

std::unique_ptr<transport::Listener> Network::listener(ProcessExecutor& executor) {
  return std::make_unique<SimListener>(*this, executor);
}

std::unique_ptr<transport::Dialer> Network::dialer(ProcessExecutor& executor, std::string id) {
  return std::make_unique<SimDialer>(*this, executor, std::move(id));
}

void Network::send(const std::shared_ptr<Line>& line, int from, wire::Frame frame) {
  if (!line->open) return;
  if (from == 1) {
    if (coordinator_sends) coordinator_sends(line->client, frame);
    note_sent(*line, frame);
    carry(line, from, std::move(frame));
    return;
  }
  if (client_sends) client_sends(line->client, frame);
  auto more = aside ? aside(line->client, frame) : std::nullopt;
  if (more && more->first) carry(line, from, std::move(more->frame));
  carry(line, from, std::move(frame));
  if (more && !more->first) carry(line, from, std::move(more->frame));
}

void Network::note_sent(Line& line, const wire::Frame& frame) {
  held_.frame = std::max(held_.frame, frame.payload.size());
  const auto message = protocol::from_frame(frame);
  if (!message) throw std::logic_error(message.error().line());
  // What still comes of an update that was answered for is thrown away.
  if (const auto* ack = std::get_if<protocol::Ack>(&*message)) line.asked.erase(ack->update);
  if (const auto* fetch = std::get_if<protocol::Fetch>(&*message)) {
    line.asked[fetch->object] += fetch->length;
    held_.asked = std::max(held_.asked, line.asked[fetch->object]);
  }
}

void Network::break_line(const std::shared_ptr<Line>& line, int first) {
  line->open = false;
  const bool silent = draw_.uniform() < faults.lost_end;
  tell_end(line, first, some_delay());
  tell_end(line, 1 - first, silent ? kHeartbeatTime : some_delay());
}

double Network::leave_at(const std::shared_ptr<Line>& line, int from, std::size_t bytes) {
  End& end = line->ends[from];
  const bool slow = faults.slow > 0.0 && faults.slow_clients.contains(line->client);
  const double seconds = slow ? static_cast<double>(bytes) / faults.slow : 0.0;
  end.free_at = std::max(end.free_at, end.executor->seconds()) + seconds;
  if (end.free_at <= time_.seconds()) return time_.seconds();
  end.unsent += bytes;
  if (from == 1) held_.queued = std::max(held_.queued, end.unsent);
  time_.at(end.free_at, [line, from, bytes] { line->ends[from].unsent -= bytes; });
  return end.free_at;
}

void Network::carry(const std::shared_ptr<Line>& line, int from, wire::Frame frame) {
  if (!line->open) return;
  ++frames_;
  const bool too_slow = line->ends[from].unsent > kQueueMax;
  if (too_slow) ++held_.too_slow;
  if (too_slow || draw_.uniform() < faults.break_chance) {
    break_line(line, from);
    return;
  }
  End& to = line->ends[1 - from];
  const double left = leave_at(line, from, frame.payload.size() + kFrameBytes);
  to.last_arrival = std::max(to.last_arrival + 1e-9, left + some_delay());
  auto held = std::make_shared<wire::Frame>(std::move(frame));
  const bool was_cut = cut.contains(line->client);
  to.executor->at(to.last_arrival, [this, line, from, held, was_cut] {
    const auto connection = line->ends[1 - from].connection.lock();
    transport::Handler* handler = line->ends[1 - from].handler;
    if (!connection || handler == nullptr) return;
    if (was_cut || cut.contains(line->client)) {  // retransmitted in vain
      if (std::exchange(line->open, false)) {
        tell_end(line, 0, kHeartbeatTime);
        tell_end(line, 1, kHeartbeatTime);
      }
      return;
    }
    if (from == 0 && !line->asked.empty()) {
      const auto message = protocol::from_frame(*held);
      const auto* chunk = message ? std::get_if<protocol::Chunk>(&*message) : nullptr;
      if (chunk != nullptr) {
        auto& asked = line->asked[chunk->object];
        asked -= std::min<std::uint64_t>(asked, chunk->data.size());
      }
    }
    handler->on_frame(*connection, std::move(*held));
  });
}

void Network::tell_end(const std::shared_ptr<Line>& line, int side, double delay) {
  End& end = line->ends[side];
  if (end.handler == nullptr || end.connection.expired()) return;
  end.executor->after(delay, [line, side] {
    const auto connection = line->ends[side].connection.lock();
    transport::Handler* handler = std::exchange(line->ends[side].handler, nullptr);
    if (connection && handler != nullptr)
      handler->on_end(*connection, {.code = ErrorCode::kPeer, .what = "the connection broke"});
  });
}

void Network::hang_up(const std::shared_ptr<Line>& line, int by) {
  line->ends[by].handler = nullptr;
  // Not gone with the process: what was sent before arrives, then the end.
  if (!line->open) return;
  line->open = false;
  End& other = line->ends[1 - by];
  const double behind = std::max(0.0, other.last_arrival - time_.seconds()) + some_delay();
  tell_end(line, 1 - by, behind);
}

void Network::break_all(const std::string& id) {
  for (const auto& weak : lines_) {
    const auto line = weak.lock();
    if (!line || (id != "coordinator" && line->client != id)) continue;
    const int gone = id == "coordinator" ? 1 : 0;
    line->ends[gone].handler = nullptr;
    if (!std::exchange(line->open, false)) continue;
    const bool silent = draw_.uniform() < faults.lost_end;
    tell_end(line, 1 - gone, silent ? kHeartbeatTime : some_delay());
  }
  if (id == "coordinator") listening_ = nullptr;
}

}  // namespace strata::sim

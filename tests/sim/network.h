#pragma once
// A network of one coordinator and its clients: frames take drawn times, connections break, links
// are cut and healed, or slow: then frames queue, and a connection whose queue is too long ends.
// Within a connection frames keep their order, as TCP gives it.
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "base/hash.h"
#include "sim/executor.h"
#include "transport/transport.h"

namespace strata::sim {

/// Bytes that are queued for a peer before it counts as too slow, as transports have it.
inline constexpr std::size_t kQueueMax = 1500;

struct NetworkFaults {
  double delay = 0.01;        // seconds, the mean of a frame's way
  double break_chance = 0.0;  // of a connection, per frame
  double lost_end = 0.0;      // chance that one end hears of a break only after the heartbeat time
  double slow = 0.0;          // bytes a second on the links of `slow_clients`; 0: no limit
  std::set<std::string> slow_clients;
};

class Network {
 public:
  Network(Timeline& time, sys::Stream draw) : time_(time), draw_(draw) {}

  NetworkFaults faults;
  std::set<std::string> cut;  // clients that the coordinator cannot be reached from

  /// Told of each frame that a client or the coordinator sends.
  std::function<void(const std::string& client, const wire::Frame&)> client_sends;
  std::function<void(const std::string& client, const wire::Frame&)> coordinator_sends;
  /// What a client that means harm says beside a frame; `first`: before it.
  struct Aside {
    wire::Frame frame;
    bool first = false;
  };
  std::function<std::optional<Aside>(const std::string& client, const wire::Frame&)> aside;

  /// The coordinator's side; frames reach `guard`ed handlers while its process lives.
  [[nodiscard]] std::unique_ptr<transport::Listener> listener(ProcessExecutor& executor);
  [[nodiscard]] std::unique_ptr<transport::Dialer> dialer(ProcessExecutor& executor,
                                                          std::string id);
  /// Every connection of this client breaks; of all clients when it is the coordinator.
  void break_all(const std::string& id);
  void break_everything();
  [[nodiscard]] std::uint64_t frames() const { return frames_; }

  /// What the coordinator held for one connection, at most.
  struct Held {
    std::size_t queued = 0;    // bytes of frames not handed to the network
    std::size_t frame = 0;     // bytes of one of them
    std::uint64_t asked = 0;   // bytes of an update asked for and not here
    std::size_t too_slow = 0;  // connections that ended for what was queued
  };
  [[nodiscard]] const Held& held() const { return held_; }

  // For the connections.
  struct End {
    ProcessExecutor* executor = nullptr;
    std::shared_ptr<bool> alive;  // of the process
    transport::Handler* handler = nullptr;
    std::weak_ptr<transport::Connection> connection;
    transport::Peer peer;
    double last_arrival = 0.0;  // of a frame to it
    double free_at = 0.0;       // when what it has sent is handed to the network
    std::size_t unsent = 0;     // bytes
  };
  struct Line {
    std::string client;
    bool open = true;
    End ends[2];                            // 0 client, 1 coordinator
    std::map<Sha256, std::uint64_t> asked;  // by the coordinator, of an update, not here yet
  };
  void send(const std::shared_ptr<Line>& line, int from, wire::Frame frame);
  void hang_up(const std::shared_ptr<Line>& line, int by);

 private:
  void carry(const std::shared_ptr<Line>& line, int from, wire::Frame frame);
  /// When the frame is handed to the network.
  [[nodiscard]] double leave_at(const std::shared_ptr<Line>& line, int from, std::size_t bytes);
  void note_sent(Line& line, const wire::Frame& frame);
  void break_line(const std::shared_ptr<Line>& line, int first);
  static void tell_end(const std::shared_ptr<Line>& line, int side, double delay);
  [[nodiscard]] double some_delay();

  Timeline& time_;
  sys::Stream draw_;
  std::uint64_t frames_ = 0;
  Held held_;
  transport::Handler* listening_ = nullptr;
  ProcessExecutor* listener_executor_ = nullptr;
  std::vector<std::weak_ptr<Line>> lines_;
  friend class SimListener;
  friend class SimDialer;
};

}  // namespace strata::sim

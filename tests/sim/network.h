#pragma once
// A network of one coordinator and its clients: frames take drawn times, connections break, links
// are cut and healed. Within a connection frames keep their order, as TCP gives it.
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "sim/executor.h"
#include "transport/transport.h"

namespace strata::sim {

struct NetworkFaults {
  double delay = 0.01;        // seconds, the mean of a frame's way
  double break_chance = 0.0;  // of a connection, per frame
  double lost_end = 0.0;      // chance that one end hears of a break only after the heartbeat time
};

class Network {
 public:
  Network(Timeline& time, sys::Stream draw) : time_(time), draw_(draw) {}

  NetworkFaults faults;
  std::set<std::string> cut;  // clients that the coordinator cannot be reached from

  /// The coordinator's side; frames reach `guard`ed handlers while its process lives.
  [[nodiscard]] std::unique_ptr<transport::Listener> listener(ProcessExecutor& executor);
  [[nodiscard]] std::unique_ptr<transport::Dialer> dialer(ProcessExecutor& executor,
                                                          std::string id);
  /// Every connection of this client breaks; of all clients when it is the coordinator.
  void break_all(const std::string& id);
  void break_everything();
  [[nodiscard]] std::uint64_t frames() const { return frames_; }

  // For the connections.
  struct End {
    ProcessExecutor* executor = nullptr;
    std::shared_ptr<bool> alive;  // of the process
    transport::Handler* handler = nullptr;
    std::weak_ptr<transport::Connection> connection;
    transport::Peer peer;
    double last_arrival = 0.0;
  };
  struct Line {
    std::string client;
    bool open = true;
    End ends[2];  // 0 client, 1 coordinator
  };
  void carry(const std::shared_ptr<Line>& line, int from, wire::Frame frame);
  void hang_up(const std::shared_ptr<Line>& line, int by);

 private:
  void tell_end(const std::shared_ptr<Line>& line, int side, double delay);
  [[nodiscard]] double some_delay();

  Timeline& time_;
  sys::Stream draw_;
  std::uint64_t frames_ = 0;
  transport::Handler* listening_ = nullptr;
  ProcessExecutor* listener_executor_ = nullptr;
  std::vector<std::weak_ptr<Line>> lines_;
  friend class SimListener;
  friend class SimDialer;
};

}  // namespace strata::sim

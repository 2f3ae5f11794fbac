#pragma once
// What world.h runs, taken apart: machines, the processes on them, and the faults that hit both.
// For the files federation.cpp, processes.cpp and faults.cpp only.
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sim/accounts.h"
#include "sim/history.h"
#include "sim/network.h"
#include "sim/owner.h"
#include "sim/worker.h"
#include "sim/world.h"

namespace strata::sim {

[[nodiscard]] std::size_t rank_of(std::size_t client, const std::string& method);

class Federation {
 public:
  explicit Federation(const Scenario& s);
  ~Federation();
  Federation(const Federation&) = delete;
  Federation& operator=(const Federation&) = delete;
  Verdict run();

 private:
  struct CoordinatorProcess;
  struct ClientProcess;
  struct Machine {
    Machine(const Timeline& time, sys::Stream draw) : clock(time), disk(draw) {}
    MachineClock clock;
    Disk disk;
  };
  static constexpr std::size_t kCoordinator = 0;  // clients follow

  // federation.cpp
  void prepare_machines();
  void watch_network();
  void watch_offer(const protocol::ClientId& client, const wire::Frame& frame);
  [[nodiscard]] std::optional<Network::Aside> second_offer(const wire::Frame& frame);
  void note(const std::string& what);
  void violated(const std::string& what);
  [[nodiscard]] Complain complain() {
    return [this](const std::string& what) { violated(what); };
  }
  void check_all();
  void check_accounts();
  void sum_up();

  // processes.cpp
  void start_coordinator();
  [[nodiscard]] coordinator::ServerConfig server_config() const;
  [[nodiscard]] coordinator::Coordinator core();
  void start_client(std::size_t i);
  /// Its outbox, and its ledger where it has one.
  [[nodiscard]] Result<void> open_client(std::size_t process, ClientProcess& client);
  [[nodiscard]] client::SessionConfig session_config(std::size_t process) const;
  void cannot_start(std::size_t process, const Error& why);
  void crash(std::size_t process, bool machine);
  void stop(std::size_t process);
  void restart_later(std::size_t process);
  [[nodiscard]] std::unique_ptr<ProcessExecutor> executor_for(std::size_t process);
  [[nodiscard]] bool alive(std::size_t process) const;
  [[nodiscard]] std::string name_of(std::size_t process) const;
  /// Why a client gave up, if it may.
  [[nodiscard]] bool may_give_up(std::size_t process, const Error& why);
  [[nodiscard]] Owner* owner_of(std::size_t process);
  [[nodiscard]] bool is_stale(std::size_t process) const;

  // faults.cpp
  void plan_faults();
  void plan_crashes_at_calls();
  void plan_disk_faults();
  void plan_put_backs();
  void plan_clock_jumps();
  void end_faults();
  void every(double seconds, const std::function<void()>& task);
  [[nodiscard]] std::size_t some_process() { return draw_.below(names_.size() + 1); }
  [[nodiscard]] bool faulty() const { return time_.seconds() < s_.faults_end; }

  Scenario s_;
  Timeline time_;
  sys::Stream draw_;
  Network network_;
  std::vector<protocol::ClientId> names_;
  std::map<std::size_t, std::unique_ptr<Machine>> machines_;  // by process
  std::map<std::size_t, std::unique_ptr<Owner>> owners_;
  SeenLedgers ledgers_;
  std::unique_ptr<CoordinatorProcess> coordinator_;
  std::map<std::size_t, std::unique_ptr<ClientProcess>> clients_;
  std::map<std::size_t, bool> finished_;
  std::map<std::size_t, std::function<void()>> doomed_;  // what is torn down after this task
  History seen_;
  Accounts accounts_;        // of a coordinator that hides clients
  std::uint64_t noise_ = 0;  // draws of private clients
  Hasher log_;
  Verdict verdict_;
};

struct Federation::CoordinatorProcess final : coordinator::ServerObserver {
  explicit CoordinatorProcess(Federation& f) : federation(f) {}
  Federation& federation;
  std::unique_ptr<ProcessExecutor> executor;
  std::unique_ptr<coordinator::Server> server;
  std::unique_ptr<transport::Listener> listener;

  Result<void> closed(const coordinator::RoundReport& report, const coordinator::Coordinator&,
                      double) override;
  Result<void> committed(const coordinator::RoundCommitted& r) override;
  Result<void> resumed(const protocol::RoundChange&, const coordinator::RoundCommitted& r,
                       const coordinator::Coordinator&) override;
  void accepted(const coordinator::UpdateAccepted& u) override;
  void left_out(const coordinator::ClientOut& o) override;
  void noticed(const std::string& what) override;
  void done(const Result<void>& how) override;
};

struct Federation::ClientProcess final : client::SessionObserver {
  ClientProcess(Federation& f, std::size_t i) : federation(f), index(i) {}
  Federation& federation;
  std::size_t index;  // of the process
  std::unique_ptr<ProcessExecutor> executor;
  std::unique_ptr<transport::Dialer> dialer;
  std::unique_ptr<client::BaseModel> base;
  std::optional<client::Outbox> outbox;
  std::unique_ptr<client::Budget> budget;
  std::unique_ptr<Worker> worker;
  std::unique_ptr<client::Session> session;

  [[nodiscard]] const protocol::ClientId& name() const { return federation.names_[index - 1]; }
  void acknowledged(const protocol::Ack& a) override;
  void followed(const protocol::Head& head, std::uint64_t) override;
  void done(const Result<protocol::Finished>& how) override;
};

}  // namespace strata::sim

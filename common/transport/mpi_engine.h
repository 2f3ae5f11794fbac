#pragma once
// The thread that talks to MPI: it joins the job, sends what is queued, takes in what comes, says
// now and then that it is there and notices who is not, and leaves. It asks MPI again and again, as
// nothing can wait for MPI and for our own threads at once; the pauses between grow from 50 us to
// 1 ms, to a tenth of that while news is recent. For the files mpi*.cpp only. Threads: as each part
// says.
#include <atomic>
#include <condition_variable>
#include <future>
#include <map>
#include <mutex>
#include <set>
#include <tuple>
#include <vector>

#include "transport/mpi_outbox.h"

namespace strata::transport {

class MpiEngine {
 public:
  using Door = MpiDoor<MpiEngine>;
  MpiEngine(std::unique_ptr<MpiPort> port, MpiLink::ToExecutor executor, const sys::Clock& clock,
            MpiOptions options);

  // From any thread.
  /// Calls `task` in the engine's thread. Through door(), which closes when that ends.
  void post(std::function<void()> task);
  [[nodiscard]] const std::shared_ptr<Door>& door() const { return door_; }

  // From the executor's thread.
  /// Set when MPI has started; when the last message is out; when MPI is left, or abandoned.
  [[nodiscard]] std::future<Result<MpiPlace>>& started() { return started_future_; }
  [[nodiscard]] std::future<void>& quiet() { return quiet_future_; }
  [[nodiscard]] std::future<void>& left() { return left_future_; }
  /// Nobody waits for the thread any more: should MPI come back to it, it ends. Clock and executor
  /// need not be there then.
  void give_up() { given_up_ = true; }
  /// Whether that rank has said farewell. From any thread.
  [[nodiscard]] bool has_left(int rank) const;

  // The engine's thread.
  void run();
  /// Accepts connections for `handler`; null: no more. `hearing`: its listener's.
  void listen(Handler* handler, std::shared_ptr<MpiHearing> hearing);
  void dial(std::shared_ptr<MpiLink> link, std::shared_ptr<MpiHearing> hearing,
            const std::string& id, int to);
  /// Closes the connections of a listener or dialer.
  void close_all_of(const std::shared_ptr<MpiHearing>& hearing);
  /// Farewells, then the end, with MPI_Finalize.
  void finish(double wait_s);
  /// The end, at once and without it.
  void stop() { ended_ = true; }

 private:
  enum class Stage { kDialing, kOpen, kClosing };
  struct Session {
    int rank = 0;
    MpiEnd end = MpiEnd::kListener;  // ours
    std::uint64_t number = 0;
    Stage stage = Stage::kOpen;
    std::shared_ptr<MpiLink> link;
    std::shared_ptr<MpiHearing> hearing;
    std::shared_ptr<MpiMeter> meter = std::make_shared<MpiMeter>();
    wire::FrameReader reader{};
    std::uint64_t offset = 0;    // of the frame that is coming
    std::uint64_t sequence = 0;  // of the next frame to send
    double closed_at = 0;
  };
  using Key = std::tuple<int, MpiEnd, std::uint64_t>;
  using SessionPtr = std::shared_ptr<Session>;
  struct Rank {
    explicit Rank(int rank) : outbox(rank) {}
    MpiOutbox outbox;
    double heard = 0;
    bool left = false;          // has said farewell
    std::optional<Error> lost;  // why it is thought dead
    [[nodiscard]] bool there() const { return !left && !lost; }
  };

  [[nodiscard]] bool start();
  [[nodiscard]] bool turn();
  [[nodiscard]] bool run_tasks();
  [[nodiscard]] bool receive();
  [[nodiscard]] bool send();
  void rest(bool moved);
  void leave();
  [[nodiscard]] bool farewells_done() const;

  void take(const MpiArrival& arrival);
  void take_open(int rank, const MpiMessage& message);
  void take_data(const SessionPtr& session, const MpiMessage& message);
  void take_close(const SessionPtr& session, const MpiMessage& message);

  void tick();
  void watch(int number, Rank& rank);
  [[nodiscard]] bool watches(int rank) const {
    return rank != place_.rank && (options_.mesh || place_.rank == 0 || rank == 0);
  }
  void lose(int rank, const Error& why);

  [[nodiscard]] MpiWires wires_to(const SessionPtr& session);
  [[nodiscard]] SessionPtr find(int rank, MpiEnd end, std::uint64_t number) const;
  void enqueue(const SessionPtr& session, wire::Frame frame);
  void close(const SessionPtr& session);
  void end(const SessionPtr& session, const Error& why, bool tell_peer);
  void end_all_of(int rank, const Error& why, bool tell_peer);
  [[nodiscard]] Rank& rank_at(int rank) { return ranks_[static_cast<std::size_t>(rank)]; }

  std::unique_ptr<MpiPort> port_;
  MpiLink::ToExecutor executor_;
  const sys::Clock& clock_;
  MpiOptions options_;
  std::shared_ptr<Door> door_;
  std::promise<Result<MpiPlace>> started_;
  std::promise<void> quiet_;
  std::promise<void> left_;
  std::future<Result<MpiPlace>> started_future_ = started_.get_future();
  std::future<void> quiet_future_ = quiet_.get_future();
  std::future<void> left_future_ = left_.get_future();
  std::atomic<bool> given_up_ = false;
  std::shared_ptr<std::atomic<std::size_t>> inbox_ = std::make_shared<std::atomic<std::size_t>>(0);

  mutable std::mutex mutex_;
  std::condition_variable news_;
  std::vector<std::function<void()>> tasks_;  // under the mutex
  std::set<int> farewells_;                   // under the mutex; ranks

  // The engine's thread only, from here on.
  MpiPlace place_;
  std::vector<Rank> ranks_;
  std::map<Key, SessionPtr> sessions_;
  Handler* handler_ = nullptr;
  std::shared_ptr<MpiHearing> listener_hearing_;
  std::uint64_t last_number_ = 0;
  double now_ = 0;
  double next_tick_ = 0;
  double tick_s_;
  double deaf_until_ = 0;  // silence before this is ours: we did not listen
  int calm_turns_ = 0;
  double moved_at_ = 0;
  bool ended_ = false;
  bool deaf_ = false;  // MPI does not receive any more
  bool finishing_ = false;
  double finish_by_ = 0;
};

}  // namespace strata::transport

#pragma once
// The executor's side of a connection over MPI: what handlers are told, and the Connection they
// hold. For the files mpi*.cpp only.
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <utility>

#include "transport/mpi.h"

namespace strata::transport {

/// Hands functions to something with a post() for as long as it is there; afterwards they are
/// dropped. Shared by all who may outlive it; from any thread.
template <class Target>
class MpiDoor {
 public:
  explicit MpiDoor(Target& target) : target_(&target) {}
  /// Whether it was handed over.
  bool post(std::function<void()> task) {
    const std::lock_guard lock(mutex_);
    if (target_ == nullptr) return false;
    target_->post(std::move(task));
    return true;
  }
  void close() {
    const std::lock_guard lock(mutex_);
    target_ = nullptr;
  }

 private:
  std::mutex mutex_;
  Target* target_;
};

/// Whether a listener or dialer is still there. Touched in the executor's thread only.
struct MpiHearing {
  bool alive = true;
};

/// What both threads know of one connection.
struct MpiMeter {
  std::atomic<std::size_t> unsent = 0;  // bytes of payload
  std::atomic<bool> over = false;
};

/// Bytes that were received and not yet handled, of all connections; taken off again with this.
class MpiShare {
 public:
  MpiShare(std::shared_ptr<std::atomic<std::size_t>> inbox, std::size_t bytes)
      : inbox_(std::move(inbox)), bytes_(bytes) {
    *inbox_ += bytes_;
  }
  ~MpiShare() { *inbox_ -= bytes_; }
  MpiShare(const MpiShare&) = delete;
  MpiShare& operator=(const MpiShare&) = delete;

 private:
  std::shared_ptr<std::atomic<std::size_t>> inbox_;
  std::size_t bytes_;
};

/// How a Connection reaches its session in the thread of MPI.
struct MpiWires {
  std::function<void(wire::Frame)> send;
  std::function<void()> close;
  std::shared_ptr<MpiMeter> meter;
};

/// What the executor's thread knows of one connection. The functions are called in the thread of
/// MPI and do their work in the executor's.
class MpiLink : public std::enable_shared_from_this<MpiLink> {
 public:
  using ToExecutor = std::shared_ptr<MpiDoor<sys::Executor>>;
  MpiLink(ToExecutor executor, std::shared_ptr<MpiHearing> hearing, Handler& handler,
          std::function<void(const Error&)> failed)
      : executor_(std::move(executor)),
        hearing_(std::move(hearing)),
        handler_(&handler),
        failed_(std::move(failed)) {}

  /// It is open: the handler gets its Connection. Nobody left to hold it: it is closed.
  void opened(MpiWires wires, Peer peer);
  void received(wire::Frame frame, std::shared_ptr<MpiShare> share);
  /// It has ended after opened().
  void ended(Error why);
  /// It has ended before.
  void failed(Error why);

  /// In the executor's thread: the handler hears nothing more.
  void forget_handler() { handler_ = nullptr; }

 private:
  ToExecutor executor_;
  std::shared_ptr<MpiHearing> hearing_;
  Handler* handler_;
  std::function<void(const Error&)> failed_;
  std::weak_ptr<Connection> connection_;
};

}  // namespace strata::transport

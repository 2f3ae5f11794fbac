#pragma once
// The thread in which the sockets of one listener or dialer live. For the files tls_*.cpp only.
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/bytes.h"

namespace strata::transport {

/// Hands functions to the thread for as long as it is there; afterwards they are dropped. Shared by
/// all who may outlive the thread; from any thread.
class IoDoor {
 public:
  explicit IoDoor(boost::asio::io_context& context) : context_(&context) {}
  template <class Function>
  void post(Function function) {
    const std::lock_guard lock(mutex_);
    if (context_ != nullptr) boost::asio::post(*context_, std::move(function));
  }
  void close() {
    const std::lock_guard lock(mutex_);
    context_ = nullptr;
  }

 private:
  std::mutex mutex_;
  boost::asio::io_context* context_;
};

class IoThread {
 public:
  IoThread();
  ~IoThread();  // stops at once what is not finished
  IoThread(const IoThread&) = delete;
  IoThread& operator=(const IoThread&) = delete;

  [[nodiscard]] boost::asio::io_context& context() { return context_; }
  [[nodiscard]] const std::shared_ptr<IoDoor>& door() const { return door_; }
  /// Room to read into, of whichever session is reading just now.
  [[nodiscard]] std::span<std::byte> scratch() { return scratch_; }
  /// Waits until the thread has called finish().
  void join();
  /// In the thread: there is nothing left to do.
  void finish() { context_.stop(); }

 private:
  boost::asio::io_context context_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  std::shared_ptr<IoDoor> door_;
  Bytes scratch_;
  std::thread thread_;
};

}  // namespace strata::transport

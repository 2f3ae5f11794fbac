#pragma once
// An executor that a test turns itself.
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <utility>

#include "sys/executor.h"

namespace strata::support {

/// The test's thread is the executor's. Destroyed last.
class Pump final : public sys::Executor {
 public:
  void post(Task task) override {
    {
      const std::lock_guard lock(mutex_);
      tasks_.push_back(std::move(task));
    }
    news_.notify_one();
  }
  sys::TimerId after(double seconds, Task task) override {
    timers_.emplace(std::pair(now() + seconds, ++last_), std::move(task));
    return last_;
  }
  void cancel(sys::TimerId timer) override {
    std::erase_if(timers_, [&](const auto& entry) { return entry.first.second == timer; });
  }

  /// Calls tasks until `done`; false when that takes longer than `seconds`.
  bool run_until(const std::function<bool()>& done, double seconds = 10) {
    const double end = now() + seconds;
    while (!done()) {
      if (now() > end) return false;
      run_one(std::min(end, now() + 0.02));
    }
    return true;
  }
  void run_for(double seconds) {
    (void)run_until([] { return false; }, seconds);
  }

 private:
  static double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }
  void run_one(double end) {
    if (!timers_.empty() && timers_.begin()->first.first <= now()) {
      Task task = std::move(timers_.begin()->second);
      timers_.erase(timers_.begin());
      return task();
    }
    std::unique_lock lock(mutex_);
    news_.wait_for(lock, std::chrono::duration<double>(std::max(0.0, end - now())),
                   [this] { return !tasks_.empty(); });
    if (tasks_.empty()) return;
    Task task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    task();
  }

  std::mutex mutex_;
  std::condition_variable news_;
  std::deque<Task> tasks_;
  std::map<std::pair<double, sys::TimerId>, Task> timers_;
  sys::TimerId last_ = 0;
};

}  // namespace strata::support

#include <chrono>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <utility>

#include "sys/executor.h"

namespace strata::sys {
namespace {

class ThreadLoop final : public Loop {
 public:
  explicit ThreadLoop(const Clock& clock) : clock_(clock) {}

  void post(Task task) override {
    {
      const std::lock_guard lock(mutex_);
      tasks_.push_back(std::move(task));
    }
    news_.notify_one();
  }

  // Timers belong to the loop's thread: no lock.
  TimerId after(double seconds, Task task) override {
    const TimerId id = ++last_timer_;
    timers_.emplace(std::pair(clock_.seconds() + seconds, id), std::move(task));
    return id;
  }

  void cancel(TimerId timer) override {
    for (auto at = timers_.begin(); at != timers_.end(); ++at) {
      if (at->first.second == timer) {
        timers_.erase(at);
        return;
      }
    }
  }

  void run() override {
    while (true) {
      Task task;
      if (!timers_.empty() && timers_.begin()->first.first <= clock_.seconds()) {
        task = std::move(timers_.begin()->second);
        timers_.erase(timers_.begin());
      } else if (!wait_for_task(task)) {
        return;
      }
      if (task) task();
    }
  }

  void stop() override {
    {
      const std::lock_guard lock(mutex_);
      stopped_ = true;
    }
    news_.notify_all();
  }

 private:
  // False: stopped. An empty task: a timer may be due.
  bool wait_for_task(Task& task) {
    std::unique_lock lock(mutex_);
    const auto ready = [this] { return stopped_ || !tasks_.empty(); };
    if (timers_.empty()) {
      news_.wait(lock, ready);
    } else if (const double left = timers_.begin()->first.first - clock_.seconds(); left > 0) {
      news_.wait_for(lock, std::chrono::duration<double>(std::min(left, 3600.0)), ready);
    }
    if (stopped_) return false;
    if (!tasks_.empty()) {
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    return true;
  }

  const Clock& clock_;
  std::mutex mutex_;
  std::condition_variable news_;
  std::deque<Task> tasks_;
  bool stopped_ = false;
  std::map<std::pair<double, TimerId>, Task> timers_;  // by time, then by age
  TimerId last_timer_ = 0;
};

}  // namespace

std::unique_ptr<Loop> make_loop(const Clock& clock) { return std::make_unique<ThreadLoop>(clock); }

}  // namespace strata::sys

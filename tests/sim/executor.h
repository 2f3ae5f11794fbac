#pragma once
// Virtual time: one queue of tasks for all simulated processes, ordered by time and then by a drawn
// number, so that one seed gives one order. Tasks of a process that has ended are dropped.
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

#include "sys/clock.h"
#include "sys/executor.h"
#include "sys/random.h"

namespace strata::sim {

/// Thrown out of a disk call: the process ends here, as by kill -9 or a power cut.
struct Crash {
  bool machine = false;  // what was not flushed is lost too
};

class Timeline final : public sys::Clock {
 public:
  explicit Timeline(std::uint64_t seed) : draw_(sys::Stream(seed).at({.purpose = "order"})) {}
  double seconds() const override { return now_; }
  std::string utc() const override { return "2026-01-01T00:00:00Z"; }

  void at(double time, std::function<void()> task) {
    queue_.emplace(std::pair(std::max(time, now_), draw_.next()), std::move(task));
  }
  /// Calls the next task; false when there is none.
  bool step() {
    if (queue_.empty()) return false;
    auto first = queue_.extract(queue_.begin());
    now_ = first.key().first;
    first.mapped()();
    return true;
  }

 private:
  double now_ = 0.0;
  sys::Stream draw_;
  std::multimap<std::pair<double, std::uint32_t>, std::function<void()>> queue_;
};

/// What a simulated process hands its tasks to. `guard` runs a task as part of the process.
class ProcessExecutor final : public sys::Executor {
 public:
  using Guard = std::function<void(const std::function<void()>&)>;
  ProcessExecutor(Timeline& time, Guard guard) : time_(time), guard_(std::move(guard)) {}
  ~ProcessExecutor() override { *alive_ = false; }
  ProcessExecutor(const ProcessExecutor&) = delete;
  ProcessExecutor& operator=(const ProcessExecutor&) = delete;

  // Posted tasks keep their order: each a hair after the one before.
  void post(Task task) override {
    last_ = std::max(last_ + 1e-9, time_.seconds());
    later(last_, std::move(task), 0);
  }
  sys::TimerId after(double seconds, Task task) override {
    const sys::TimerId id = ++timers_;
    live_[id] = true;
    later(time_.seconds() + seconds, std::move(task), id);
    return id;
  }
  void cancel(sys::TimerId timer) override { live_.erase(timer); }

 private:
  void later(double when, Task task, sys::TimerId timer) {
    time_.at(when, [this, alive = alive_, task = std::move(task), timer] {
      if (!*alive || (timer != 0 && live_.erase(timer) == 0)) return;
      guard_(task);
    });
  }

  Timeline& time_;
  Guard guard_;
  double last_ = 0.0;
  sys::TimerId timers_ = 0;
  std::map<sys::TimerId, bool> live_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace strata::sim

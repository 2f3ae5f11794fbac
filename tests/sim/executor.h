#pragma once
// Virtual time: one queue of tasks for all simulated processes, ordered by time and then by a drawn
// number, so that one seed gives one order. Tasks of a process that has ended are dropped; those of
// one that waits for its disk wait with it.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
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

/// The clock of one machine. Its wall clock may be wrong; and while a process waits for its disk
/// its time is ahead of everybody's.
class MachineClock final : public sys::Clock {
 public:
  explicit MachineClock(const Timeline& time) : time_(time) {}
  double seconds() const override { return std::max(time_.seconds(), busy_until_); }
  std::string utc() const override {
    using namespace std::chrono;
    constexpr auto kStart = sys_days(year(2026) / 1 / 1);
    const auto now =
        kStart + std::chrono::seconds(std::llround(seconds() + (wall_ ? wall_(seconds()) : 0.0)));
    const auto day = floor<days>(now);
    const year_month_day date(day);
    const hh_mm_ss clock(now - day);
    char text[64];
    const auto number = [](auto count) { return static_cast<int>(count); };
    std::snprintf(text, sizeof text, "%04d-%02u-%02uT%02d:%02d:%02dZ",
                  static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                  static_cast<unsigned>(date.day()), number(clock.hours().count()),
                  number(clock.minutes().count()), number(clock.seconds().count()));
    return text;
  }
  /// By how much the wall clock is wrong at a time.
  void set_wall(std::function<double(double seconds)> wrong_by) { wall_ = std::move(wrong_by); }
  void wait(double seconds) { busy_until_ = this->seconds() + seconds; }
  /// Who waited is no more.
  void stop_waiting() { busy_until_ = 0.0; }

 private:
  const Timeline& time_;
  std::function<double(double)> wall_;
  double busy_until_ = 0.0;
};

/// What a simulated process hands its tasks to. `guard` runs a task as part of the process.
class ProcessExecutor final : public sys::Executor {
 public:
  using Guard = std::function<void(const std::function<void()>&)>;
  /// `clock`: of its machine; null: it never waits.
  ProcessExecutor(Timeline& time, Guard guard, const MachineClock* clock = nullptr)
      : time_(time), guard_(std::move(guard)), clock_(clock) {}
  ~ProcessExecutor() override { *alive_ = false; }
  ProcessExecutor(const ProcessExecutor&) = delete;
  ProcessExecutor& operator=(const ProcessExecutor&) = delete;

  /// The time as its process has it.
  [[nodiscard]] double seconds() const {
    return clock_ == nullptr ? time_.seconds() : clock_->seconds();
  }
  void at(double time, Task task) { later(time, std::move(task), 0); }

  // Posted tasks keep their order: each a hair after the one before, and after those that wait.
  void post(Task task) override {
    const double behind = seconds() > time_.seconds() ? 1e-6 : 0.0;
    last_ = std::max({last_ + 1e-9, seconds() + behind, waits_ + 1e-9});
    later(last_, std::move(task), 0);
  }
  sys::TimerId after(double seconds, Task task) override {
    const sys::TimerId id = ++timers_;
    live_[id] = true;
    later(this->seconds() + seconds, std::move(task), id);
    return id;
  }
  void cancel(sys::TimerId timer) override { live_.erase(timer); }

 private:
  void later(double when, Task task, sys::TimerId timer) {
    time_.at(when, [this, alive = alive_, task = std::move(task), timer] {
      if (!*alive || (timer != 0 && !live_.contains(timer))) return;
      if (seconds() > time_.seconds()) {
        waits_ = std::max(waits_ + 1e-9, seconds());
        later(waits_, task, timer);
        return;
      }
      live_.erase(timer);
      guard_(task);
    });
  }

  Timeline& time_;
  Guard guard_;
  const MachineClock* clock_;
  double last_ = 0.0;
  double waits_ = 0.0;  // when the last of the tasks that wait is to run
  sys::TimerId timers_ = 0;
  std::map<sys::TimerId, bool> live_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace strata::sim

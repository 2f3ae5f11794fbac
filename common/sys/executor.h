#pragma once
// One thread of decisions: everything a coordinator or a client decides happens in functions that
// an executor calls one after the other. Sockets, timers and training hand their news over with
// post(). A simulation has an executor of its own, with virtual time and a seeded order.
#include <cstdint>
#include <functional>
#include <memory>

#include "sys/clock.h"

namespace strata::sys {

using TimerId = std::uint64_t;  // never 0

class Executor {
 public:
  using Task = std::function<void()>;
  virtual ~Executor() = default;
  /// Calls `task` later, in the executor's thread, after what was posted before by this thread. May
  /// be called from any thread.
  virtual void post(Task task) = 0;
  /// Calls `task` once, `seconds` (>= 0) from now at the earliest. From the executor's thread.
  virtual TimerId after(double seconds, Task task) = 0;
  /// The timer's task will not be called any more; an id that is done or 0 is ignored. From the
  /// executor's thread.
  virtual void cancel(TimerId timer) = 0;
};

/// The executor of a real process: the thread that calls run().
class Loop : public Executor {
 public:
  /// Calls tasks until stop() is called; what is queued then is dropped with the loop.
  virtual void run() = 0;
  /// From any thread.
  virtual void stop() = 0;
};

/// Timers go by `clock`, which outlives the loop.
[[nodiscard]] std::unique_ptr<Loop> make_loop(const Clock& clock);

}  // namespace strata::sys

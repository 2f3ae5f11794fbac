#pragma once
// The compute threads of one caller: a client being trained, a coordinator merging, one worker of
// an evaluation. Matrix products run on the thread that asks for them (tensor/gemm.h), so a team is
// the only place where work is shared out, and two teams never fight inside a library.
#include <cstddef>
#include <memory>
#include <type_traits>

namespace strata::tensor {

/// `size()` threads: the caller's own and size - 1 that sleep between calls. One caller at a time;
/// calls from inside a running call are mistakes (an assertion). Exceptions must not leave the
/// work.
class Team {
 public:
  explicit Team(int threads = 1);
  Team(Team&&) noexcept;
  Team& operator=(Team&&) noexcept;
  ~Team();

  [[nodiscard]] int size() const;

  /// work(member) once on every thread, member 0 being the caller; returns when all are done.
  template <class Work>
  void run(Work&& work) {
    auto* address = std::addressof(work);
    run_erased([](void* w, int member) { (**static_cast<decltype(address)*>(w))(member); },
               static_cast<void*>(&address));
  }

  /// task(i, member) for each i in [0, n): handed out one by one in order as threads become free.
  /// Tasks must write to disjoint places, so that the result does not depend on who ran what.
  template <class Task>
  void for_tasks(std::size_t n, Task&& task) {
    if (n <= 1 || size() == 1) {
      for (std::size_t i = 0; i < n; ++i) task(i, 0);
      return;
    }
    Counter counter(*this);
    run([&](int member) {
      for (std::size_t i = counter.next(); i < n; i = counter.next()) task(i, member);
    });
  }

  /// body(first, last, member) on disjoint ranges that cover [0, n), all but the last at least
  /// `grain` long. How the range is cut depends on the team's size; one piece runs on the caller.
  template <class Body>
  void for_range(std::size_t n, std::size_t grain, Body&& body) {
    const std::size_t pieces = pieces_of(n, grain);
    if (pieces == 0) return;
    for_tasks(pieces, [&](std::size_t i, int member) {
      body(n * i / pieces, n * (i + 1) / pieces, member);
    });
  }

 private:
  struct State;
  // The next index of a for_tasks call.
  class Counter {
   public:
    explicit Counter(Team& team);
    std::size_t next();

   private:
    State& state_;
  };
  void run_erased(void (*call)(void*, int), void* work);
  [[nodiscard]] std::size_t pieces_of(std::size_t n, std::size_t grain) const;

  std::unique_ptr<State> state_;
};

/// What the machine lets this process use: the affinity mask, or OMP_NUM_THREADS when that is less.
[[nodiscard]] int hardware_threads();

}  // namespace strata::tensor

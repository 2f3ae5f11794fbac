#include "tensor/parallel.h"

#include <omp.h>

#include <algorithm>
#include <atomic>
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace strata::tensor {
namespace {

// ThreadSanitizer cannot see how libgomp starts and joins a team, since libgomp is built without
// it. These say it: what came before released() comes before what follows acquired().
#if defined(__SANITIZE_THREAD__)
void released(void* edge) { __tsan_release(edge); }
void acquired(void* edge) { __tsan_acquire(edge); }
#else
void released(void* /*edge*/) {}
void acquired(void* /*edge*/) {}
#endif

// Calls share(member, team size) on each member of a team. Only `share` is checked for races: a
// member reads this frame before it can say that it has started.
template <class Share>
__attribute__((no_sanitize("thread"))) void on_team(int threads, const Share& share) {
  [[maybe_unused]] char start = 0;
  [[maybe_unused]] char end = 0;
  released(&start);
#pragma omp parallel num_threads(threads)
  {
    acquired(&start);
    share(static_cast<std::size_t>(omp_get_thread_num()),
          static_cast<std::size_t>(omp_get_num_threads()));
    released(&end);
  }
  acquired(&end);
}

}  // namespace

void set_thread_count(int n) { omp_set_num_threads(std::max(1, n)); }
int thread_count() { return omp_get_max_threads(); }
int hardware_threads() {
  return std::max(1, std::min(omp_get_num_procs(), omp_get_thread_limit()));
}

void parallel_for(std::size_t n, std::size_t grain,
                  const std::function<void(std::size_t, std::size_t)>& body) {
  if (n == 0) return;
  const std::size_t pieces =
      (n + std::max<std::size_t>(grain, 1) - 1) / std::max<std::size_t>(grain, 1);
  const auto threads = std::min<std::size_t>(pieces, static_cast<std::size_t>(thread_count()));
  if (threads <= 1 || omp_in_parallel() != 0) {
    body(0, n);
    return;
  }
  on_team(static_cast<int>(threads), [&](std::size_t me, std::size_t team) {
    const std::size_t first = n * me / team;
    const std::size_t last = n * (me + 1) / team;
    if (first < last) body(first, last);
  });
}

void parallel_tasks(std::size_t n, const std::function<void(std::size_t)>& task) {
  const auto threads = std::min<std::size_t>(n, static_cast<std::size_t>(thread_count()));
  if (threads <= 1 || omp_in_parallel() != 0) {
    for (std::size_t i = 0; i < n; ++i) task(i);
    return;
  }
  std::atomic<std::size_t> next{0};
  on_team(static_cast<int>(threads), [&](std::size_t /*me*/, std::size_t /*team*/) {
    for (std::size_t i = next++; i < n; i = next++) task(i);
  });
}

}  // namespace strata::tensor

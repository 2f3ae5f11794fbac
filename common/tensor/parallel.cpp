#include "tensor/parallel.h"

#include <omp.h>

#include <algorithm>

namespace strata::tensor {

void set_thread_count(int n) { omp_set_num_threads(std::max(1, n)); }
int thread_count() { return omp_get_max_threads(); }
int hardware_threads() {
  return std::max(1, std::min(omp_get_num_procs(), omp_get_thread_limit()));
}

void parallel_for(std::size_t n, std::size_t grain,
                  const std::function<void(std::size_t, std::size_t)>& body) {
  if (n == 0) return;
  const std::size_t pieces =
      n / std::max<std::size_t>(grain, 1);  // rounded down: no range is shorter than the grain
  const auto threads = std::min<std::size_t>(pieces, static_cast<std::size_t>(thread_count()));
  if (threads <= 1 || omp_in_parallel() != 0) {
    body(0, n);
    return;
  }
#pragma omp parallel num_threads(static_cast <int>(threads))
  {
    const auto me = static_cast<std::size_t>(omp_get_thread_num());
    const auto team = static_cast<std::size_t>(omp_get_num_threads());
    const std::size_t first = n * me / team;
    const std::size_t last = n * (me + 1) / team;
    if (first < last) body(first, last);
  }
}

void parallel_tasks(std::size_t n, const std::function<void(std::size_t)>& task) {
  const auto threads = std::min<std::size_t>(n, static_cast<std::size_t>(thread_count()));
  if (threads <= 1 || omp_in_parallel() != 0) {
    for (std::size_t i = 0; i < n; ++i) task(i);
    return;
  }
#pragma omp parallel for schedule(dynamic, 1) num_threads(static_cast <int>(threads))
  for (std::size_t i = 0; i < n; ++i) task(i);
}

}  // namespace strata::tensor

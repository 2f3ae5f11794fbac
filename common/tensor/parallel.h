#pragma once
// The one pool of compute threads: OpenMP's, which oneDNN uses too, so that the two never
// oversubscribe a machine. A thread team belongs to the calling thread; each client being trained
// sets its own width.
#include <cstddef>
#include <functional>

namespace strata::tensor {

/// How many threads loops and matrix products started by the calling thread use from now on. n
/// >= 1.
void set_thread_count(int n);
[[nodiscard]] int thread_count();
/// What the machine lets this process use (affinity mask, OMP_NUM_THREADS).
[[nodiscard]] int hardware_threads();

/// Calls body(first, last) on disjoint ranges that cover [0, n), each at least `grain` long but the
/// last. `body` must not depend on how the range was cut; with one thread, or n <= grain, it is one
/// call on this thread. Exceptions must not leave `body`.
void parallel_for(std::size_t n, std::size_t grain,
                  const std::function<void(std::size_t, std::size_t)>& body);

/// Calls task(i) for each i in [0, n), in any order, uneven tasks shared out as threads become
/// free. Tasks must write to disjoint places, so the result does not depend on who ran what.
void parallel_tasks(std::size_t n, const std::function<void(std::size_t)>& task);

}  // namespace strata::tensor

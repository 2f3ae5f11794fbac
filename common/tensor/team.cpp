#include "tensor/team.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <string_view>
#include <thread>
#include <vector>

#include "base/result.h"

namespace strata::tensor {
namespace {

// How often a thread looks before it sleeps: about 20 us, the length of a short gap between two
// phases of a step. Longer would steal time from other programs on a shared machine.
constexpr int kLooks = 400;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

template <class T>
void wait_while(const std::atomic<T>& value, T old) {
  for (int i = 0; i < kLooks; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    relax();
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

struct Team::State {
  std::atomic<std::uint32_t> epoch{0};  // grows with every call
  std::atomic<int> busy{0};             // threads that have not finished the call
  std::atomic<std::size_t> next{0};
  void (*call)(void*, int) = nullptr;
  void* work = nullptr;
  bool running = false;
  std::atomic<bool> ends{false};
  std::vector<std::jthread> threads;

  void serve(int member) {
    std::uint32_t seen = 0;
    while (true) {
      wait_while(epoch, seen);
      seen = epoch.load(std::memory_order_acquire);
      if (ends.load(std::memory_order_acquire)) return;
      call(work, member);
      if (busy.fetch_sub(1, std::memory_order_acq_rel) == 1) busy.notify_one();
    }
  }
};

Team::Team(int threads) : state_(std::make_unique<State>()) {
  for (int member = 1; member < threads; ++member) {
    state_->threads.emplace_back([state = state_.get(), member] { state->serve(member); });
  }
}
Team::Team(Team&&) noexcept = default;
Team& Team::operator=(Team&&) noexcept = default;

Team::~Team() {
  if (!state_) return;
  state_->ends.store(true, std::memory_order_release);
  state_->epoch.fetch_add(1, std::memory_order_acq_rel);
  state_->epoch.notify_all();
}

int Team::size() const { return static_cast<int>(state_->threads.size()) + 1; }

void Team::run_erased(void (*call)(void*, int), void* work) {
  State& s = *state_;
  check(!s.running, "team: a call from inside a running call");
  if (s.threads.empty()) return call(work, 0);
  s.running = true;
  s.call = call;
  s.work = work;
  s.busy.store(static_cast<int>(s.threads.size()), std::memory_order_relaxed);
  s.epoch.fetch_add(1, std::memory_order_acq_rel);
  s.epoch.notify_all();
  call(work, 0);
  for (int left = s.busy.load(std::memory_order_acquire); left != 0;
       left = s.busy.load(std::memory_order_acquire)) {
    wait_while(s.busy, left);
  }
  s.running = false;
}

Team::Counter::Counter(Team& team) : state_(*team.state_) {
  state_.next.store(0, std::memory_order_relaxed);
}
std::size_t Team::Counter::next() { return state_.next.fetch_add(1, std::memory_order_relaxed); }

std::size_t Team::pieces_of(std::size_t n, std::size_t grain) const {
  const std::size_t most = n / std::max<std::size_t>(grain, 1);
  return n == 0 ? 0 : std::clamp<std::size_t>(most, 1, static_cast<std::size_t>(size()));
}

int hardware_threads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  int threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  if (sched_getaffinity(0, sizeof(set), &set) == 0) threads = std::max(1, CPU_COUNT(&set));
  // NOLINTNEXTLINE(concurrency-mt-unsafe): strata changes no variable
  if (const char* text = std::getenv("OMP_NUM_THREADS")) {
    const std::string_view limit(text);
    int n = 0;
    const auto parsed = std::from_chars(limit.data(), limit.data() + limit.size(), n);
    if (parsed.ec == std::errc() && n > 0) threads = std::min(threads, n);
  }
  return threads;
}

}  // namespace strata::tensor

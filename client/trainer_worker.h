#pragma once
// Rounds of real training for a session: a LocalTrainer, and the threads of a process that trains
// for several clients.
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "client/base_model.h"
#include "client/budget.h"
#include "client/local_trainer.h"
#include "client/round_worker.h"
#include "protocol/update_codec.h"
#include "sys/executor.h"

namespace strata::client {

/// Threads that train, one client each at a time, in the order in which they were asked.
/// Threads: submit() from the executor's; the destructor waits for what runs.
class TrainingPool {
 public:
  /// `workers` clients side by side, each with `threads` compute threads.
  TrainingPool(int workers, int threads);
  ~TrainingPool();
  TrainingPool(const TrainingPool&) = delete;
  TrainingPool& operator=(const TrainingPool&) = delete;
  /// Calls `work` with a workspace, in one of the pool's threads.
  void submit(std::function<void(model::Workspace&)> work);

 private:
  struct State;
  std::shared_ptr<State> state_;
  std::vector<std::jthread> threads_;
};

struct TrainerTools {
  sys::Executor& executor;
  const sys::Clock& clock;
  observe::Observer& observer;  // of steps; called from the pool's threads
  TrainingPool& pool;
  BaseModel& base;
  protocol::Encoding encoding = protocol::Encoding::kF32;
  Budget* budget = nullptr;  // of a private client
};

/// The trainer is borrowed and used by nobody else.
[[nodiscard]] std::unique_ptr<RoundWorker> make_trainer_worker(LocalTrainer& trainer,
                                                               TrainerTools tools);

}  // namespace strata::client

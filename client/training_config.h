#pragma once
// The `training` section of a job: how a client trains.
#include <cstdint>
#include <optional>
#include <string>

#include "client/optimizer/optimizer.h"
#include "client/schedule/schedule.h"
#include "config/section.h"

namespace strata::client {

struct TrainingConfig {
  std::int64_t batch_size = 8;             // records per optimizer step and accumulation
  std::int64_t gradient_accumulation = 1;  // batches per optimizer step
  std::int64_t local_epochs =
      1;  // passes over the client's records per round, unless local_steps is set
  std::int64_t local_steps = 0;  // optimizer steps per round; 0: by epochs
  std::int64_t max_steps =
      0;  // of the whole run, per client, spread over the rounds; 0: by epochs or local_steps
  OptimizerConfig optimizer;
  ScheduleConfig schedule;
  double max_grad_norm = 1.0;  // 0: no clipping
  /// Clip each record's own gradient to this norm and average them (adapters only); 0: the gradient
  /// of the mean token loss. Not a key of job files: a private mechanism sets it.
  double record_max_norm = 0.0;
  /// Steps between merges of a client's heads among themselves; none: at rounds only.
  std::optional<double> merge_every;
  std::string moments = "reset";  // of factors that start afresh: reset | keep | prune
  bool shuffle = true;
  bool recompute = false;
  std::int64_t pass_tokens = 1024;  // tokens computed at once; a larger batch is cut into passes
  std::int64_t threads = 1;         // compute threads of one client: part of what decides the bits
  std::int64_t seed = 0;
};

void describe(config::Fields& fields, TrainingConfig& training);

/// How many factors one after another an adapter goes through in a round of local_steps: 1, or more
/// when heads merge in between and start afresh.
[[nodiscard]] std::size_t parts_between_rounds(const TrainingConfig& training, bool fresh);

}  // namespace strata::client

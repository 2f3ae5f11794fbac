#include "client/training_config.h"

#include <array>
#include <vector>

namespace strata::client {

void describe(config::Fields& f, TrainingConfig& t) {
  static constexpr std::array<std::string_view, 3> kMoments{"reset", "keep", "prune"};
  std::vector<std::string_view> optimizer_names, schedule_names;
  for (const auto& entry : optimizers()) optimizer_names.push_back(entry.name);
  for (const auto& entry : schedules()) schedule_names.push_back(entry.name);
  f.integer("batch_size", t.batch_size, {.min = 1, .max = 1e6},
            "records per optimizer step and accumulation");
  f.integer("gradient_accumulation", t.gradient_accumulation, {.min = 1, .max = 1e6},
            "batches per optimizer step");
  f.integer("local_epochs", t.local_epochs, {.min = 1, .max = 1e6},
            "passes over a client's records per round");
  f.integer("local_steps", t.local_steps, {.min = 0, .max = 1e9},
            "optimizer steps per round; 0: by local_epochs");
  f.integer("max_steps", t.max_steps, {.min = 0, .max = 1e9},
            "optimizer steps per client in the whole run, spread over its rounds; 0: by "
            "local_epochs or local_steps");
  f.choice("optimizer", t.optimizer.method, optimizer_names, "optimizer");
  f.number("learning_rate", t.optimizer.learning_rate, {.max = 1e3, .above = 0.0},
           "peak learning rate");
  f.number("beta1", t.optimizer.beta1, {.min = 0.0, .below = 1.0},
           "AdamW: decay of the first moment");
  f.number("beta2", t.optimizer.beta2, {.min = 0.0, .below = 1.0},
           "AdamW: decay of the second moment");
  f.number("epsilon", t.optimizer.epsilon, {.above = 0.0},
           "AdamW: added to the root of the second moment");
  f.number("weight_decay", t.optimizer.weight_decay, {.min = 0.0},
           "weight decay: decoupled in AdamW, added to the gradient in SGD");
  f.number("momentum", t.optimizer.momentum, {.min = 0.0, .below = 1.0}, "SGD momentum");
  f.choice("schedule", t.schedule.method, schedule_names,
           "learning-rate schedule over the whole run");
  f.integer("warmup_steps", t.schedule.warmup_steps, {.min = 0, .max = 1e9},
            "linear warm-up at the start of the run");
  f.integer("rewarm_steps", t.schedule.rewarm_steps, {.min = 0, .max = 1e9},
            "warm-up again after each restart with fresh factors");
  f.number("max_grad_norm", t.max_grad_norm, {.min = 0.0},
           "clip the joint gradient norm to this; 0: no clipping");
  f.number_or(
      "merge_every", t.merge_every, "round", {.min = 1, .max = 1e9},
      "steps after which a client merges what its heads learned, in itself; \"round\": only "
      "when a round ends");
  f.choice("moments", t.moments, kMoments,
           "the optimizer's memory of factors that start afresh: reset, keep, or prune to the "
           "largest tenth");
  f.boolean("shuffle", t.shuffle, "new random order of the records in each epoch");
  f.boolean(
      "recompute", t.recompute,
      "keep only each layer's input and compute its activations again: less memory, more time");
  f.integer("pass_tokens", t.pass_tokens, {.min = 1, .max = 1e9},
            "tokens computed at once; larger batches are cut into passes");
  f.integer("threads", t.threads, {.min = 1, .max = 1024},
            "compute threads of one client; part of what decides the bits");
  f.integer("seed", t.seed, {.min = 0, .max = 9e15}, "seed of every draw of the run");
}

std::size_t parts_between_rounds(const TrainingConfig& training, bool fresh) {
  const auto every = static_cast<std::int64_t>(training.merge_every.value_or(0.0));
  if (every <= 0 || !fresh) return 1;
  return static_cast<std::size_t>((training.local_steps + every - 1) / every);
}

}  // namespace strata::client

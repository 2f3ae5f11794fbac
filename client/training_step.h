#pragma once
// One optimizer step, to be read beside the papers' algorithm: gradient of the mean token loss over
// a batch of records (or mean of the records' own gradients, each clipped), clipping, update. With
// several heads each has its equal part of the records, a loss and a gradient norm of its own.
#include <span>
#include <vector>

#include "client/optimizer/optimizer.h"
#include "client/trainable.h"
#include "client/training_config.h"
#include "model/decoder.h"
#include "text/example.h"

namespace strata::client {

struct StepReport {
  double loss = 0.0;       // mean over the batch's trained tokens, before the update
  double grad_norm = 0.0;  // before clipping; of several heads the largest
  std::uint64_t tokens = 0;
  std::uint64_t trained_tokens = 0;
};

/// Memory that steps of one thread reuse.
struct StepMemory {
  model::PackedBatch batch;
  std::vector<float> record_gradients;
};

/// Runs one step on `records` (indices into `examples`; a multiple of the heads). kNumeric when
/// loss or norm is not finite; nothing is changed then.
[[nodiscard]] Result<StepReport> training_step(model::Decoder& decoder, StepMemory& memory,
                                               Trainable& trainable, Optimizer& optimizer,
                                               std::span<const text::Example> examples,
                                               std::span<const std::size_t> records,
                                               const TrainingConfig& training, double learning_rate,
                                               const sys::Stream& dropout);

}  // namespace strata::client

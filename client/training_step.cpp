#include "client/training_step.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "client/heads.h"
#include "client/passes.h"
#include "client/record_clipping.h"
#include "evaluation/pack.h"

namespace strata::client {
namespace {

// For messages; not a number has no sign that means anything.
std::string in_words(double value) { return std::isnan(value) ? "NaN" : std::to_string(value); }

}  // namespace

Result<StepReport> training_step(model::Decoder& decoder, StepMemory& memory, Trainable& trainable,
                                 Optimizer& optimizer, std::span<const text::Example> examples,
                                 std::span<const std::size_t> records,
                                 const TrainingConfig& training, double learning_rate,
                                 const sys::Stream& dropout) {
  StepReport report;
  const Heads heads(trainable, examples, records);
  for (const std::size_t i : records) report.trained_tokens += examples[i].trained_tokens();
  if (report.trained_tokens == 0) return report;  // nothing to learn from these records
  std::optional<RecordClipping> clipping;
  if (training.record_max_norm > 0.0)
    clipping.emplace(training.record_max_norm, *trainable.adapters(), memory.record_gradients);

  const auto params = trainable.params();
  {
    const sys::Span span(decoder.timeline(), "prepare", 0.0);
    decoder.team().for_range(params.size(), 1, [&](std::size_t first, std::size_t last, int) {
      for (std::size_t i = first; i < last; ++i)
        std::fill(params[i].grad.begin(), params[i].grad.end(), 0.0f);
    });
    trainable.prepare(decoder.team());
  }
  double loss_sum = 0.0;
  std::uint32_t number = 0;
  for (const PassRange& pass :
       plan_passes(examples, records, static_cast<std::size_t>(training.pass_tokens),
                   clipping ? clipping->records_max() : records.size())) {
    memory.batch.clear();
    std::vector<float> weights;
    for (std::size_t i = pass.first; i < pass.first + pass.count; ++i) {
      const auto& example = examples[records[i]];
      evaluation::pack(memory.batch, example);
      // Every record weighs 1 / trained tokens of its head's whole step, so that cutting the batch
      // into passes changes nothing; one that is clipped alone, 1 / its own.
      const std::size_t own = clipping ? example.trained_tokens() : heads.trained_tokens(i);
      const auto divisor = static_cast<double>(own * (clipping ? 1 : heads.count()));
      weights.push_back(own > 0 ? static_cast<float>(1.0 / divisor) : 0.0f);
    }
    const auto head_rows = heads.rows(pass.first, memory.batch.offsets);
    model::TrainRequest request{.record_weights = weights,
                                .dropout = dropout.at({.step = number++, .purpose = "pass"}),
                                .head_rows = head_rows};
    trainable.aim(request);
    if (clipping) request.records = &clipping->begin_pass(memory.batch.offsets);
    loss_sum += decoder.train(memory.batch, request).total_loss();
    report.tokens += memory.batch.tokens.size();
    if (!clipping) continue;
    const sys::Span span(decoder.timeline(), "record clipping", 0.0);
    clipping->end_pass(1.0 / static_cast<double>(records.size()), decoder.team());
  }
  report.loss = loss_sum / static_cast<double>(report.trained_tokens);
  const sys::Span span(decoder.timeline(), "optimizer", 0.0);
  report.grad_norm = heads.clip(params, training.max_grad_norm, decoder.team());
  if (!std::isfinite(report.loss) || !std::isfinite(report.grad_norm)) {
    return fail({.code = ErrorCode::kNumeric,
                 .what = "the loss is " + in_words(report.loss) + ", the gradient norm " +
                         in_words(report.grad_norm),
                 .rule = "both must be finite",
                 .remedy = "lower training.learning_rate or set training.max_grad_norm"});
  }
  optimizer.step(params, learning_rate, decoder.team());
  return report;
}

}  // namespace strata::client

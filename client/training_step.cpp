#include "client/training_step.h"

#include <algorithm>
#include <cmath>

namespace strata::client {

Result<StepReport> training_step(model::Decoder& decoder, model::PackedBatch& batch,
                                 Trainable& trainable, Optimizer& optimizer,
                                 std::span<const text::Example> examples,
                                 std::span<const std::size_t> records,
                                 const TrainingConfig& training, double learning_rate,
                                 const sys::Stream& dropout) {
  StepReport report;
  for (const std::size_t i : records) report.trained_tokens += examples[i].trained_tokens();
  if (report.trained_tokens == 0) return report;  // nothing to learn from these records
  // Every record weighs 1 / trained tokens of the whole step, so that cutting the batch into passes
  // changes nothing.
  const auto weight = static_cast<float>(1.0 / static_cast<double>(report.trained_tokens));

  const auto params = trainable.params();
  {
    const sys::Span span(decoder.timeline(), "prepare", 0.0);
    for (const auto& param : params) std::fill(param.grad.begin(), param.grad.end(), 0.0f);
    trainable.prepare();
  }
  double loss_sum = 0.0;
  std::uint32_t pass = 0;
  for (std::size_t at = 0; at < records.size(); ++pass) {
    batch.clear();
    do {
      const text::Example& example = examples[records[at++]];
      batch.add(example.tokens, example.trained);
    } while (at < records.size() && batch.tokens.size() + examples[records[at]].tokens.size() <=
                                        static_cast<std::size_t>(training.pass_tokens));
    const std::vector<float> weights(batch.records(), weight);
    model::TrainRequest request{.record_weights = weights,
                                .dropout = dropout.at({.step = pass, .purpose = "pass"})};
    trainable.aim(request);
    loss_sum += decoder.train(batch, request).total_loss();
    report.tokens += batch.tokens.size();
  }
  report.loss = loss_sum / static_cast<double>(report.trained_tokens);
  const sys::Span span(decoder.timeline(), "optimizer", 0.0);
  report.grad_norm = clip_global_norm(params, training.max_grad_norm, decoder.team());
  if (!std::isfinite(report.loss) || !std::isfinite(report.grad_norm)) {
    return fail({.code = ErrorCode::kNumeric,
                 .what = "loss " + std::to_string(report.loss) + ", gradient norm " +
                         std::to_string(report.grad_norm),
                 .rule = "both must be finite",
                 .remedy = "lower training.learning_rate or set training.max_grad_norm"});
  }
  optimizer.step(params, learning_rate, decoder.team());
  return report;
}

}  // namespace strata::client

#include "client/loss_gradient.h"

#include <numeric>
#include <vector>

#include "client/passes.h"
#include "evaluation/pack.h"

namespace strata::client {
namespace {

// Of each example in the loss: 1 / heads of 1 / the trained tokens of its head.
std::vector<double> weights_of(std::span<const text::Example> examples, std::size_t heads) {
  const std::size_t each = examples.size() / heads;
  std::vector<double> out(examples.size(), 0.0);
  for (std::size_t h = 0; h < heads; ++h) {
    std::size_t tokens = 0;
    for (std::size_t i = h * each; i < (h + 1) * each; ++i) tokens += examples[i].trained_tokens();
    for (std::size_t i = h * each; tokens > 0 && i < (h + 1) * each; ++i)
      out[i] = 1.0 / static_cast<double>(heads * tokens);
  }
  return out;
}

}  // namespace

double add_loss_gradient(const model::Model& model, std::span<const text::Example> examples,
                         std::size_t heads, double share, const TrainingConfig& training,
                         model::Workspace& workspace, model::FullGradients& gradients) {
  if (examples.empty()) return 0.0;
  const std::vector<double> weights = weights_of(examples, heads);
  std::vector<std::size_t> records(examples.size());
  std::iota(records.begin(), records.end(), std::size_t{0});
  model::Decoder decoder(model, workspace, {.recompute = training.recompute});
  model::PackedBatch batch;
  double loss = 0.0;
  for (const PassRange& pass : plan_passes(
           examples, records, static_cast<std::size_t>(training.pass_tokens), records.size())) {
    batch.clear();
    std::vector<float> shares;
    for (std::size_t i = pass.first; i < pass.first + pass.count; ++i) {
      evaluation::pack(batch, examples[i]);
      shares.push_back(static_cast<float>(share * weights[i]));
    }
    const auto sums = decoder.train(batch, {.full = &gradients, .record_weights = shares});
    for (std::size_t i = 0; i < pass.count; ++i) loss += weights[pass.first + i] * sums.loss[i];
  }
  return loss;
}

}  // namespace strata::client

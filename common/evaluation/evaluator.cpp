#include "evaluation/evaluator.h"

#include <atomic>
#include <cmath>
#include <limits>
#include <thread>

#include "evaluation/pack.h"

namespace strata::evaluation {
namespace {

struct Pass {
  std::size_t first;
  std::size_t count;
};

// Neighbouring records, as many as fit into pass_tokens (at least one).
std::vector<Pass> plan_passes(std::span<const text::Example> examples, std::size_t pass_tokens) {
  std::vector<Pass> out;
  std::size_t tokens = 0;
  for (std::size_t i = 0; i < examples.size(); ++i) {
    const std::size_t own = examples[i].tokens.size();
    if (out.empty() || tokens + own > pass_tokens) {
      out.push_back({i, 0});
      tokens = 0;
    }
    ++out.back().count;
    tokens += own;
  }
  return out;
}

}  // namespace

double LossReport::loss() const {
  return trained_tokens == 0 ? std::numeric_limits<double>::quiet_NaN()
                             : loss_sum / static_cast<double>(trained_tokens);
}
double LossReport::perplexity() const { return std::exp(loss()); }
double LossReport::accuracy() const {
  return trained_tokens == 0 ? std::numeric_limits<double>::quiet_NaN()
                             : static_cast<double>(correct) / static_cast<double>(trained_tokens);
}

namespace {

// Images are for models of images, of their size and classes; text for the others.
Result<void> check_kind(const model::Model& model, const text::Example& example) {
  const auto& config = model.config();
  const auto refuse = [&](std::string what, std::string rule) {
    return fail({.code = ErrorCode::kData,
                 .what = std::move(what),
                 .where = example.source,
                 .rule = std::move(rule)});
  };
  if (example.is_image() != config.patches.has_value())
    return refuse(example.is_image() ? "is an image" : "is no image",
                  "the model is of the family " + config.model_type);
  if (!example.is_image()) return {};
  if (example.tokens.size() != config.max_positions ||
      example.pixels.size() != config.patches->count() * config.patches->width())
    return refuse("is an image of another size", "the model's image_size");
  if (example.label < 0 || static_cast<std::size_t>(example.label) >= config.vocab)
    return refuse("has class " + std::to_string(example.label),
                  "the model has classes 0 to " + std::to_string(config.vocab - 1));
  return {};
}

}  // namespace

Result<void> check_examples(const model::Model& model, std::span<const text::Example> examples) {
  const auto& config = model.config();
  for (const auto& example : examples) {
    if (example.tokens.size() > config.max_positions) {
      return fail({.code = ErrorCode::kConfig,  // max_length let it through
                   .what = "has " + std::to_string(example.tokens.size()) + " tokens",
                   .where = example.source,
                   .rule = "the model has " + std::to_string(config.max_positions) + " positions",
                   .remedy = "set data.max_length"});
    }
    if (auto fits = check_kind(model, example); !fits) return fits;
    for (const auto token : example.tokens) {
      if (token >= 0 && static_cast<std::size_t>(token) < config.vocab) continue;
      return fail({.code = ErrorCode::kData,
                   .what = "token id " + std::to_string(token),
                   .where = example.source,
                   .rule = "the model has ids 0 to " + std::to_string(config.vocab - 1),
                   .remedy = "use the tokenizer that belongs to the model"});
    }
  }
  return {};
}

Result<LossReport> evaluate(const model::Model& model, const adapter::AdapterSet* adapters,
                            std::span<const text::Example> examples,
                            const EvaluationOptions& options) {
  if (auto ok = check_examples(model, examples); !ok) return fail(std::move(ok).error());
  const auto passes = plan_passes(examples, options.pass_tokens);
  LossReport report;
  report.records.resize(examples.size());
  std::atomic<std::size_t> next{0};
  std::atomic<bool> stopped{false};
  const auto work = [&] {
    model::Workspace workspace(options.threads_per_worker);
    model::Decoder decoder(model, workspace);
    model::PackedBatch batch;
    for (std::size_t i = next++; i < passes.size() && !stopped; i = next++) {
      if (options.stopped()) {
        stopped = true;
        return;
      }
      batch.clear();
      for (const auto& example : examples.subspan(passes[i].first, passes[i].count))
        pack(batch, example);
      const model::LossSums sums = decoder.evaluate(batch, adapters);
      for (std::size_t r = 0; r < passes[i].count; ++r) {
        report.records[passes[i].first + r] = {sums.loss[r], sums.trained[r], sums.correct[r]};
      }
    }
  };
  const auto workers =
      std::min<std::size_t>(static_cast<std::size_t>(std::max(1, options.workers)), passes.size());
  if (workers <= 1) {
    work();
  } else {
    std::vector<std::jthread> threads;
    for (std::size_t w = 0; w < workers; ++w) threads.emplace_back(work);
  }
  if (stopped) return fail({.code = ErrorCode::kInterrupted, .what = "stopped by a signal"});
  for (const auto& record : report.records) {
    report.loss_sum += record.loss_sum;
    report.trained_tokens += record.trained;
    report.correct += record.correct;
  }
  return report;
}

}  // namespace strata::evaluation

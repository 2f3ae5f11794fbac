#include "cli/start_run.h"

#include <algorithm>

#include "cli/federation.h"
#include "cli/memory_plan.h"
#include "cli/run_report.h"
#include "formats/atomic_folder.h"
#include "observe/jsonl.h"

namespace strata::cli {

namespace {

std::size_t values_of(const client::LocalTrainer& trainer, const model::Model& model) {
  if (trainer.adapter_config().method == "full") return model.parameter_count();
  auto set = adapter::AdapterSet::make(trainer.adapter_config(), client::linear_shapes(model),
                                       sys::Stream(0));
  return set ? set->trainable_count() : 0;
}

Result<void> check_memory_of(const Federation& federation, const Job& job, int threads,
                             std::size_t limit) {
  const model::Model& model = federation.coordinator.model();
  const auto own = static_cast<int>(job.training.threads);
  MemoryPlan plan{
      .model = model,
      .workers = std::clamp(threads / own, 1, static_cast<int>(federation.trainers.size())),
      .threads = own,
      .pass_tokens = static_cast<std::size_t>(job.training.pass_tokens),
      .recompute = job.training.recompute};
  const auto batch =
      static_cast<std::size_t>(job.training.batch_size * job.training.gradient_accumulation);
  const client::LocalTrainer* largest = nullptr;
  std::size_t all_values = 0;
  for (const auto& trainer : federation.trainers) {
    const std::size_t values = values_of(trainer, model);
    all_values += values;
    plan.kept += trainer.idle_bytes();
    if (largest == nullptr || values > plan.trainable) {
      largest = &trainer;
      plan.trainable = values;
    }
    std::vector<std::size_t> lengths;
    for (const auto& example : trainer.examples()) lengths.push_back(example.tokens.size());
    std::sort(lengths.rbegin(), lengths.rend());
    std::size_t step = 0;
    for (std::size_t i = 0; i < std::min(batch, lengths.size()); ++i) step += lengths[i];
    plan.step_tokens = std::max(plan.step_tokens, step);
    plan.longest = std::max(plan.longest, lengths.empty() ? 0 : lengths.front());
  }
  // With kept factors: value, gradient, moments and anchor of every client. Each round: the
  // updates, and the packet made of them; masters of what is folded into.
  if (federation.coordinator.restart() != protocol::Restart::kFresh)
    plan.kept += all_values * 5 * sizeof(float);
  plan.folded = 2 * all_values * sizeof(float);
  for (const auto& parameter : model.parameters()) {
    if (!parameter.is_vector() && !parameter.has_master())
      plan.folded += parameter.size() * sizeof(float);
  }
  plan.full = largest->adapter_config().method == "full";
  adapter::AdapterSet set;
  if (!plan.full) {
    auto made = adapter::AdapterSet::make(largest->adapter_config(), client::linear_shapes(model),
                                          sys::Stream(0));
    if (!made) return fail(std::move(made).error());
    set = std::move(*made);
    plan.adapters = &set;
  }
  return check_memory(plan, limit);
}

}  // namespace

Result<VerbOutput> start_run(const Job& job, bool force, std::size_t memory_limit, Context& context,
                             const std::function<Result<Federation>()>& make) {
  const std::filesystem::path directory = job.output.directory;
  if (auto free = formats::check_free(context.disk, directory, force); !free)
    return fail(std::move(free).error());
  auto federation = make();
  if (!federation) return fail(std::move(federation).error());
  if (memory_limit > 0) {
    if (auto fits = check_memory_of(*federation, job, context.threads, memory_limit); !fits)
      return fail(std::move(fits).error());
  }
  for (const auto& client : federation->data) {
    context.progress.on({.name = "message",
                         .fields = {{"text", "client " + client.name + ": " +
                                                 client.report.line(static_cast<std::size_t>(
                                                     job.data.max_length))}}});
  }
  if (force) {
    if (auto gone = context.disk.remove_all(directory); !gone) return fail(std::move(gone).error());
  }
  if (auto made = context.disk.create_directories(directory); !made)
    return fail(std::move(made).error());
  Result<RunSummary> summary;
  Result<void> metrics;
  {
    observe::JsonlObserver jsonl(context.disk, context.clock, directory / "metrics.jsonl");
    observe::FanOut observer({&jsonl, &context.progress});
    RunTools tools{.disk = context.disk,
                   .clock = context.clock,
                   .observer = observer,
                   .stopped = context.stopped,
                   .threads = context.threads};
    summary = run_federation(std::move(*federation), job, directory.string(), tools);
    metrics = jsonl.status();
  }
  if (!summary) return fail(std::move(summary).error());
  if (!metrics) return fail(std::move(metrics).error(), "writing metrics");
  return run_report(*summary, job, directory.string());
}

}  // namespace strata::cli

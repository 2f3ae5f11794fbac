#include "cli/start_run.h"

#include "cli/federation.h"
#include "cli/run_report.h"
#include "formats/atomic_folder.h"
#include "observe/jsonl.h"

namespace strata::cli {

Result<VerbOutput> start_run(const Job& job, bool force, Context& context,
                             const std::function<Result<Federation>()>& make) {
  const std::filesystem::path directory = job.output.directory;
  if (auto free = formats::check_free(context.disk, directory, force); !free)
    return fail(std::move(free).error());
  auto federation = make();
  if (!federation) return fail(std::move(federation).error());
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

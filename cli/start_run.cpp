#include "cli/start_run.h"

#include <algorithm>
#include <filesystem>

#include "cli/audit_trail.h"
#include "cli/federation.h"
#include "cli/plan.h"
#include "cli/private_run.h"
#include "cli/run_folder.h"
#include "cli/run_memory.h"
#include "cli/run_report.h"
#include "cli/version.h"
#include "formats/atomic_folder.h"
#include "observe/jsonl.h"

namespace strata::cli {
namespace {

using Path = std::filesystem::path;

bool lies_in(const Path& path, const Path& folder) {
  const Path whole = std::filesystem::absolute(path).lexically_normal();
  Path outer = std::filesystem::absolute(folder).lexically_normal();
  if (!outer.has_filename()) outer = outer.parent_path();  // "out/" names the folder out
  const auto [differs, rest] =
      std::mismatch(outer.begin(), outer.end(), whole.begin(), whole.end());
  return differs == outer.end();
}

// Replacing the folder must not take what the run reads.
Result<void> check_spared(const Job& job, const Path& directory) {
  std::vector<std::pair<std::string, std::string>> inputs{{"model.path", job.model.path},
                                                          {"data.path", job.data.path},
                                                          {"adapter.init", job.adapter.init},
                                                          {"evaluation.data", job.evaluation.data}};
  for (const auto& client : job.clients)
    inputs.emplace_back("data of client " + client.name, client.data);
  for (const auto& [key, path] : inputs) {
    if (path.empty() || !lies_in(path, directory)) continue;
    return fail({.code = ErrorCode::kConfig,
                 .what = "holds " + key + ", " + path,
                 .where = directory.string(),
                 .rule = "--force replaces the run folder, which is for results alone",
                 .remedy = "choose another output folder"});
  }
  return {};
}

// A job without what may change while its run goes on: whose key is whose, how long to wait.
std::string lasting(Job job) {
  job.network = {};
  for (auto& client : job.clients) client.key.clear();
  return resolved(job);
}

// Whether `text`, which an earlier process left in `file`, is of this job. Keys that it did not
// know have their defaults.
bool is_of(const Job& job, const std::string& text, const Path& file) {
  if (text == resolved(job)) return true;
  const auto began = parse_job(text, file.string(), {});
  return began && lasting(*began) == lasting(job);
}

// An unfinished run lies there: it is gone on with, if it is of this job.
Result<bool> is_unfinished(const sys::Disk& disk, const Job& job, const Path& directory,
                           bool serves_clients_after_the_end) {
  if (!disk.exists(directory / kStateFolder)) return false;
  if (disk.exists(directory / "manifest.json") && !serves_clients_after_the_end) return false;
  // Ended before anything was written: the state itself says whether it is of this job.
  if (!disk.exists(directory / "config.json")) return true;
  auto text = disk.read_text(directory / "config.json");
  if (!text) return fail(std::move(text).error());
  if (is_of(job, *text, directory / "config.json")) return true;
  return fail({.code = ErrorCode::kFileExists,
               .what = "holds an unfinished run of another job",
               .where = directory.string(),
               .rule = "the job file that began it goes on with it",
               .remedy = "give that job, choose another output folder, or --force"});
}

Result<void> open_audit(AuditTrail& audit, const Job& job) {
  if (auto opened = audit.open(); !opened) return opened;
  audit.on({.name = "run_opened",
            .fields = {{"program", "strata " + std::string(kVersion)},
                       {"job", job.name},
                       {"plan_hash", hex(sha256(bytes_of(Plan(job).whole())))}}});
  return {};
}

}  // namespace

Result<VerbOutput> start_run(const Job& job, bool force, std::size_t memory_limit, Context& context,
                             const std::function<Result<Federation>()>& make,
                             const Hosting& hosting) {
  const Path directory = job.output.directory;
  if (force) {
    if (auto spared = check_spared(job, directory); !spared) return fail(std::move(spared).error());
  }
  auto resumes = force ? Result<bool>(false)
                       : is_unfinished(context.disk, job, directory, hosting.keeps_state);
  if (!resumes) return fail(std::move(resumes).error());
  if (!*resumes) {
    if (auto free = formats::check_free(context.disk, directory, force); !free)
      return fail(std::move(free).error());
  }
  auto federation = make();
  if (!federation) return fail(std::move(federation).error());
  if (memory_limit > 0) {
    if (auto fits = check_run_memory(*federation, job, context.threads, memory_limit); !fits)
      return fail(std::move(fits).error());
  }
  for (const auto& client : federation->data) {
    if (!tells_of_records(job)) break;
    context.progress.on({.name = "message",
                         .fields = {{"text", "client " + client.name + ": " +
                                                 client.report.line(static_cast<std::size_t>(
                                                     job.data.max_length))}}});
  }
  const bool was_there = !force && context.disk.exists(directory);  // as an empty folder
  if (force) {
    if (auto gone = context.disk.remove_all(directory); !gone) return fail(std::move(gone).error());
  }
  if (auto made = context.disk.create_directories(directory); !made)
    return fail(std::move(made).error());
  Result<RunSummary> summary;
  Result<void> metrics;
  std::uint32_t rounds_finished = 0;
  {
    observe::JsonlObserver jsonl(context.disk, context.clock, directory / "metrics.jsonl");
    AuditTrail audit(context.disk, context.clock, directory / kAuditFile, [&](const Error& why) {
      context.progress.on({.name = "message", .fields = {{"text", "auditing: " + why.line()}}});
    });
    std::vector<observe::Observer*> observers{&jsonl, &context.progress};
    const bool audited = static_cast<bool>(hosting.listener);  // clients are elsewhere
    // First: a round that the metrics have is not told again after a crash.
    if (audited) observers.insert(observers.begin(), &audit);
    observe::FanOut observer(std::move(observers));
    RunTools tools{.disk = context.disk,
                   .clock = context.clock,
                   .observer = observer,
                   .stopped = context.stopped,
                   .threads = context.threads,
                   .rounds_finished = 0,
                   .begun = [&] { return audited ? open_audit(audit, job) : Result<void>{}; },
                   .stopping =
                       [&](const Error& why) {
                         audit.on({.name = "run_stopped", .fields = {{"reason", why.line()}}});
                       }};
    summary = run_federation(std::move(*federation), job, directory.string(), tools, hosting);
    metrics = jsonl.status();
    if (metrics) metrics = audit.status();
    rounds_finished = tools.rounds_finished;
  }
  // What others sent is kept, and what a signal stopped; a folder in which somebody else works is
  // not ours.
  const bool later = !summary && (hosting.listener || hosting.peers ||
                                  summary.error().code == ErrorCode::kLocked ||
                                  summary.error().code == ErrorCode::kInterrupted);
  if (!summary && rounds_finished == 0 && !later) {
    (void)context.disk.remove_all(directory);
    if (was_there) (void)context.disk.create_directories(directory);
  }
  if (!summary) return fail(std::move(summary).error());
  if (!metrics) return fail(std::move(metrics).error(), "writing down what happened");
  return run_report(*summary, job, directory.string());
}

}  // namespace strata::cli

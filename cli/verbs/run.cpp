// strata run JOB.json: a whole federation in one process, or by mpirun in several.
#include "cli/federation.h"
#include "cli/memory_plan.h"
#include "cli/mpi_run.h"
#include "cli/run_report.h"
#include "cli/start_run.h"
#include "cli/verbs/verbs.h"

namespace strata::cli {
namespace {

struct Options {
  std::string job;
  std::vector<std::string> settings;
  std::string directory;
  std::int64_t seed = -1;
  std::string memory_limit;
  bool force = false;
};

Result<VerbOutput> run(const Options& options, Context& context) {
  if (options.job.empty()) {
    return fail({.code = ErrorCode::kUsage,
                 .what = "no job file is given",
                 .rule = "`strata run JOB.json` runs one",
                 .remedy = "see `strata run --help`, and configs/quickstart.json for an example"});
  }
  std::vector<std::string> settings = options.settings;
  if (options.seed >= 0) settings.push_back("training.seed=" + std::to_string(options.seed));
  auto job = read_job(context.disk, options.job, settings);
  if (!job) return fail(std::move(job).error());
  if (!options.directory.empty()) job->output.directory = options.directory;
  if (job->output.directory.empty()) job->output.directory = "runs/" + job->name;
  auto limit = memory_limit_of(options.memory_limit);
  if (!limit) return fail(std::move(limit).error());
  auto place = mpi_place();
  if (!place) return fail(std::move(place).error());
  if (*place) return run_by_mpi(**place, *job, options.force, *limit, context);
  return start_run(*job, options.force, *limit, context,
                   [&] { return assemble(context.disk, *job, context.threads); });
}

}  // namespace

Verb run_verb() {
  return {
      .name = "run",
      .help = "run a federation in one process, or by mpirun in several",
      .example = "strata run configs/quickstart.json -o runs/quickstart",
      .declare = [](CLI::App& command) -> RunVerb {
        auto options = std::make_shared<Options>();
        command.add_option("job,-c,--config", options->job, "job file (JSON; see `strata schema`)");
        command.add_option(
            "--set", options->settings,
            "KEY=VALUE over the job file, e.g. training.learning_rate=0.001; repeatable");
        command.add_option("-o,--output-dir", options->directory,
                           "run folder (default: the job's, or runs/NAME)");
        command.add_option("--seed", options->seed, "training.seed")->check(CLI::NonNegativeNumber);
        command.add_option("--memory-limit", options->memory_limit,
                           "refuse to start what needs more, e.g. 2.5G");
        command.add_flag("--force", options->force, "replace an existing run folder");
        return [options](Context& context) { return run(*options, context); };
      }};
}

}  // namespace strata::cli

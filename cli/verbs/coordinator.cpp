// strata coordinator JOB.json: the rounds of a job, for clients that connect by TLS.
#include "cli/certs.h"
#include "cli/federation.h"
#include "cli/memory_plan.h"
#include "cli/network_limits.h"
#include "cli/refusal_teller.h"
#include "cli/start_run.h"
#include "cli/verbs/verbs.h"
#include "transport/tls.h"

namespace strata::cli {
namespace {

struct Options {
  std::string job;
  std::vector<std::string> settings;
  std::string directory;
  std::string listen = "0.0.0.0:7700";
  std::string certificates;
  bool force = false;
};

Result<VerbOutput> run(const Options& options, Context& context) {
  auto job = read_job(context.disk, options.job, options.settings);
  if (!job) return fail(std::move(job).error());
  if (job->aggregation.topology != "star") {
    return fail({.code = ErrorCode::kConfig,
                 .what = "is \"" + job->aggregation.topology + "\"",
                 .where = options.job + ": aggregation.topology",
                 .rule = "between sites one coordinator merges; a mesh is for the ranks of mpirun",
                 .remedy = "set it to \"star\""});
  }
  if (!options.directory.empty()) job->output.directory = options.directory;
  if (job->output.directory.empty()) job->output.directory = "runs/" + job->name;
  std::vector<std::string> roster;
  std::map<std::string, Sha256> keys;
  for (const auto& client : job->clients) {
    roster.push_back(client.name);
    if (const auto key = unhex(client.key)) keys.emplace(client.name, *key);
  }
  Hosting hosting;
  hosting.durability = sys::Durability::kMachine;
  hosting.keeps_state = true;
  hosting.listener =
      [&](sys::Executor& executor,
          observe::Observer& observer) -> Result<std::unique_ptr<transport::Listener>> {
    auto files = certs::files_in(context.disk, options.certificates);
    if (files.crl.empty()) {
      return fail({.code = ErrorCode::kFileMissing,
                   .what = "no list of revoked certificates is there",
                   .where = options.certificates + "/crl.pem",
                   .rule = "a coordinator lets nobody in without one",
                   .remedy = "fetch crl.pem from the authority (`strata certs revoke` renews it)"});
    }
    if (auto own = load_own(context, files, certs::Role::kCoordinator); !own)
      return fail(std::move(own).error());
    transport::TlsOptions tls{
        .address = options.listen, .files = std::move(files), .allowed = roster, .keys = keys};
    tls.limits = tls_limits(job->network);
    // All of its clients may call at once, and from behind one address.
    const auto crowd = static_cast<int>(roster.size());
    tls.limits.connects_burst = std::max(tls.limits.connects_burst, static_cast<double>(crowd));
    tls.limits.unknown_per_address_max = std::max(tls.limits.unknown_per_address_max, crowd);
    tls.limits.unknown_max = std::max(tls.limits.unknown_max, 2 * crowd);
    tls.refused = [teller = std::make_shared<RefusalTeller>(observer, context.clock)](
                      const Error& why) { teller->tell(why); };
    tls.noticed = [&observer](const std::string& what) {
      observer.on({.name = "message", .fields = {{"text", what}}});
    };
    auto listener =
        transport::make_tls_listener(executor, context.clock, context.disk, std::move(tls));
    if (!listener) return fail(std::move(listener).error());
    return std::unique_ptr<transport::Listener>(std::move(*listener));
  };
  if (job->aggregation.deadline <= 0.0) {
    context.progress.on(
        {.name = "message",
         .fields = {{"text", "aggregation.deadline is 0: a round waits for its slowest client"}}});
  }
  return start_run(
      *job, options.force, 0, context,
      [&] { return assemble_coordinator(context.disk, *job, context.threads); }, hosting);
}

}  // namespace

Verb coordinator_verb() {
  return {.name = "coordinator",
          .help = "the rounds of a job, for clients that connect over the network",
          .example =
              "strata coordinator job.json --listen 0.0.0.0:7700 --certs coordinator/ "
              "-o runs/spring",
          .declare = [](CLI::App& command) -> RunVerb {
            auto options = std::make_shared<Options>();
            command.add_option("job,-c,--config", options->job, "job file (JSON)")->required();
            command.add_option("--set", options->settings,
                               "KEY=VALUE over the job file; repeatable");
            command.add_option("-o,--output-dir", options->directory,
                               "run folder (default: the job's, or runs/NAME); what an "
                               "interrupted run goes on from lies in it");
            command.add_option("--listen", options->listen,
                               "HOST:PORT to listen on (default 0.0.0.0:7700)");
            command
                .add_option("--certs", options->certificates,
                            "folder with this coordinator's certificate and key (`strata certs`)")
                ->required();
            command.add_flag("--force", options->force, "start anew in an existing run folder");
            return [options](Context& context) { return run(*options, context); };
          }};
}

}  // namespace strata::cli

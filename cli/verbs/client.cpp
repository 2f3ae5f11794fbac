// strata client JOB_OR_CLIENT.json: one site's part of a run.
#include <fmt/format.h>

#include "certs/node.h"
#include "cli/certs.h"
#include "cli/client_run.h"
#include "cli/network_limits.h"
#include "cli/plan.h"
#include "cli/private_run.h"
#include "cli/signed_statement.h"
#include "cli/table.h"
#include "cli/verbs/verbs.h"
#include "export/huggingface.h"
#include "formats/atomic_folder.h"
#include "transport/tls.h"

namespace strata::cli {
namespace {

struct Options {
  std::string file;
  std::vector<std::string> settings;
  std::string coordinator;
  std::string certificates;
  std::string state;
  std::string model;
  NetworkSection network;
  int attempts = 0;
  bool force = false;
};

// A file of the client's own, for those who hold no job.
void describe_client(config::Fields& f, ClientFile& c, Options& o) {
  std::int64_t version = 1;
  f.integer("version", version, {.min = 1, .max = 1}, "of this file's form");
  f.object(
      "model",
      [&](config::Fields& inner) {
        inner.path("path", c.model, "folder of the base model");
        static constexpr std::array<std::string_view, 2> kTypes{"f32", "bf16"};
        inner.choice("dtype", c.dtype, kTypes, "of matrix products; the plan's");
        inner.required({"path"});
      },
      "the base model, as the coordinator has it");
  f.path("data", c.data, "records to train on; they stay here");
  f.object(
      "ledger",
      [&](config::Fields& inner) {
        inner.path("path", c.ledger.path, "folder of the data owner's ledgers");
        inner.text("dataset_id", c.ledger.dataset_id, "name of the data set over all runs");
        inner.text("lock_service", c.ledger.lock_service,
                   "what locks and keeps the folder on a file system that does not");
      },
      "of a private client, as in a job's privacy section");
  f.text("coordinator", o.coordinator, "HOST:PORT");
  f.path("certificates", o.certificates, "folder with this client's certificate and key");
  f.path("state", o.state, "folder for what must not be lost");
  f.object(
      "network", [&](config::Fields& inner) { describe(inner, o.network); },
      "how long it waits for the coordinator, as in a job");
  f.required({"model", "data"});
}

Result<std::string> own_name(Context& context, const Options& options) {
  const auto files = certs::files_in(context.disk, options.certificates);
  auto node = load_own(context, files, certs::Role::kClient);
  if (!node) return fail(std::move(node).error());
  return node->identity.id;
}

Result<void> check_given(const Options& options) {
  const auto missing = [](const char* what, const char* remedy) {
    return fail({.code = ErrorCode::kUsage, .what = what, .remedy = remedy});
  };
  if (options.coordinator.empty())
    return missing("no coordinator is given", "--coordinator HOST:PORT");
  if (options.certificates.empty())
    return missing("no certificate is given", "--certs FOLDER, made by `strata certs`");
  return {};
}

// The job of this client: read, or made of the coordinator's plan and the client's own file.
Result<Job> find_job(Context& context, Options& options, const std::string& text, bool whole,
                     ClientHosting& hosting, RunTools& tools, std::string& name) {
  ClientFile own;
  if (whole) {
    auto job = parse_job(text, options.file, options.settings);
    if (!job) return fail(std::move(job).error());
    if (job->aggregation.topology != "star") {
      return fail(
          {.code = ErrorCode::kConfig,
           .what = "is \"" + job->aggregation.topology + "\"",
           .where = options.file + ": aggregation.topology",
           .rule = "between sites one coordinator merges; a mesh is for the ranks of mpirun",
           .remedy = "set it to \"star\""});
    }
    options.network = job->network;
    if (auto given = check_given(options); !given) return fail(std::move(given).error());
    auto id = own_name(context, options);
    if (!id) return fail(std::move(id).error());
    name = std::move(*id);
    return job;
  }
  auto read = config::read(text, options.file, options.settings,
                           [&](config::Fields& f) { describe_client(f, own, options); });
  if (!read) return fail(std::move(read).error());
  own.name = options.file;
  if (auto given = check_given(options); !given) return fail(std::move(given).error());
  auto id = own_name(context, options);
  if (!id) return fail(std::move(id).error());
  name = std::move(*id);
  auto model = model::Model::load(context.disk, own.model, compute_type(own.dtype));
  if (!model) return fail(std::move(model).error(), "loading the base model");
  auto plan = fetch_plan(*model, name, hosting, tools);
  if (!plan) return fail(std::move(plan).error(), "asking for the plan");
  return job_from_plan(*plan, own);
}

Result<void> save_model(Context& context, const Job& job, const model::Model& model,
                        const Options& options) {
  return formats::write_folder(context.disk, options.model, options.force,
                               [&](const std::filesystem::path& place) -> Result<void> {
                                 auto done = exporting::write_checkpoint_files(
                                     context.disk, place, job.model.path, model,
                                     tensor::DType::kBF16);
                                 if (!done) return fail(std::move(done).error());
                                 return {};
                               });
}

bool is_loopback(const std::string& address) {
  const std::string host = address.substr(0, address.rfind(':'));
  const bool numbers = host.find_first_not_of("0123456789.") == std::string::npos;
  return host == "localhost" || host == "[::1]" || (numbers && host.starts_with("127."));
}

Result<VerbOutput> run(Options options, Context& context) {
  auto text = context.disk.read_text(options.file);
  if (!text) return fail(std::move(text).error());
  const auto peek = nlohmann::json::parse(*text, nullptr, false, /*ignore_comments=*/true);
  const bool whole = peek.is_object() && peek.contains("clients");
  observe::Observer& observer = context.progress;
  RunTools tools{.disk = context.disk,
                 .clock = context.clock,
                 .observer = observer,
                 .stopped = context.stopped,
                 .threads = context.threads};
  ClientHosting hosting{.attempts_max = options.attempts, .wants_model = !options.model.empty()};
  hosting.dialer = [&](sys::Executor& executor,
                       const std::string&) -> Result<std::unique_ptr<transport::Dialer>> {
    return transport::make_tls_dialer(executor, context.clock, context.disk,
                                      {.address = options.coordinator,
                                       .files = certs::files_in(context.disk, options.certificates),
                                       .limits = tls_limits(options.network)});
  };
  std::string name;
  auto job = find_job(context, options, *text, whole, hosting, tools, name);
  if (!job) return fail(std::move(job).error());
  if (job->privacy.seeded_noise && !is_loopback(options.coordinator)) {
    return fail({.code = ErrorCode::kConfig,
                 .what = "is true, and the coordinator is " + printable(options.coordinator, 80),
                 .where = options.file + ": privacy.test_mode.seeded_noise",
                 .rule = "what hides nothing does not leave the machine"});
  }
  const auto& clients = job->clients;
  if (std::none_of(clients.begin(), clients.end(), [&](const auto& c) { return c.name == name; })) {
    return fail({.code = ErrorCode::kConfig,
                 .what = "no client is named " + name,
                 .where = options.file + ": clients",
                 .rule = "the certificate says who this client is"});
  }
  if (!options.model.empty()) {
    if (auto free = formats::check_free(context.disk, options.model, options.force); !free)
      return fail(std::move(free).error());
  }
  hosting.state = options.state.empty() ? "state" : options.state;
  auto site = assemble_site(context.disk, *job,
                            {.coordinator = false, .every_client = false, .clients = {name}});
  if (!site) return fail(std::move(site).error());
  auto outcome = run_clients(*site, *job, hosting, tools);
  if (!outcome) return fail(std::move(outcome).error());
  if (!options.model.empty()) {
    if (auto saved = save_model(context, *job, site->base, options); !saved)
      return fail(std::move(saved).error());
  }
  if (site->promise && tells_of_clients(*job)) {  // of noise that it has not added it says nothing
    if (auto said = write_signed_statement(
            context.disk, context.clock, hosting.state / name / "privacy.signed.json",
            certs::files_in(context.disk, options.certificates), *job, *site->promise, *outcome);
        !said) {
      // The run is over and whole; a certificate that has expired meanwhile does not undo it.
      context.progress.on(
          {.name = "message", .fields = {{"text", "no signed statement: " + said.error().line()}}});
    }
  }
  VerbOutput out;
  out.data = {{"client", name},
              {"rounds", outcome->finished.head.round},
              {"trained_rounds", outcome->rounds},
              {"tokens", outcome->tokens},
              {"seconds", outcome->seconds},
              {"chain_hash", hex(outcome->finished.head.chain)},
              {"final_model_hash", hex(outcome->finished.state)}};
  out.text =
      fmt::format("client {}: {} of {} rounds trained, {} tokens in {}\nfinal model {}\n", name,
                  outcome->rounds, outcome->finished.head.round, outcome->tokens,
                  duration_text(outcome->seconds), hex(outcome->finished.state).substr(0, 16));
  return out;
}

}  // namespace

Verb client_verb() {
  return {.name = "client",
          .help = "one site's part of a run: trains on its own records for a coordinator elsewhere",
          .example =
              "strata client job.json --coordinator host:7700 --certs clinic-a/ --state "
              "clinic-a/state",
          .declare = [](CLI::App& command) -> RunVerb {
            auto options = std::make_shared<Options>();
            command
                .add_option("file,-c,--config", options->file,
                            "the job file, or a client's own (JSON; docs/manual/network.md)")
                ->required();
            command.add_option("--set", options->settings, "KEY=VALUE over the file; repeatable");
            command.add_option("--coordinator", options->coordinator,
                               "HOST:PORT of the coordinator");
            command.add_option("--certs", options->certificates,
                               "folder with this client's certificate and key (`strata certs`)");
            command.add_option("--state", options->state,
                               "folder for what must not be lost (default: state)");
            command.add_option("--save-model", options->model,
                               "write the final model there as a Hugging Face folder");
            command
                .add_option("--attempts", options->attempts,
                            "give up after so many attempts to connect; 0: never")
                ->check(CLI::NonNegativeNumber);
            command.add_flag("--force", options->force, "replace an existing model folder");
            return [options](Context& context) { return run(*options, context); };
          }};
}

}  // namespace strata::cli

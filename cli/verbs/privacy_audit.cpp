// strata privacy audit JOB.json: trains as a client of the job would, with canaries in its steps,
// and says whether what is released keeps to what the job promises.
#include "cli/privacy_audit.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "cli/assemble.h"
#include "cli/private_run.h"
#include "cli/table.h"
#include "cli/verbs/verbs.h"
#include "client/trainable.h"

namespace strata::cli {
namespace {

using json = nlohmann::ordered_json;

struct Options {
  std::string job;
  std::vector<std::string> settings;
  std::string client;
  std::size_t canaries = 0;
  double confidence = 0.95;
  std::optional<std::uint64_t> seed;
};

Error no_promise(const Options& options, std::string what, std::string rule) {
  return {.code = ErrorCode::kConfig,
          .what = std::move(what),
          .where = options.job + ": privacy",
          .rule = std::move(rule),
          .remedy = "give it a budget, see `strata privacy plan`"};
}

Result<const ClientSection*> client_of(const Job& job, const Options& options) {
  if (options.client.empty()) return &job.clients.front();
  const auto found = std::find_if(job.clients.begin(), job.clients.end(),
                                  [&](const auto& c) { return c.name == options.client; });
  if (found != job.clients.end()) return &*found;
  return fail({.code = ErrorCode::kUsage,
               .what = "\"" + printable(options.client, 80) + "\" is no client of the job",
               .where = "--client",
               .rule = "one of the job's clients"});
}

std::string_view word(privacy::AuditVerdict verdict) {
  switch (verdict) {
    case privacy::AuditVerdict::kConsistent:
      return "consistent";
    case privacy::AuditVerdict::kViolated:
      return "violated";
    case privacy::AuditVerdict::kInconclusive:
      break;
  }
  return "inconclusive";
}

std::string explained(privacy::AuditVerdict verdict, double claimed) {
  const std::string promise = number_text(claimed, 3);
  switch (verdict) {
    case privacy::AuditVerdict::kConsistent:
      return "The attack could have shown that epsilon is above " + promise +
             ", and did not. It finds missing clipping, missing or reused noise, not a factor of "
             "two; it proves nothing.\n";
    case privacy::AuditVerdict::kViolated:
      return "What is released shows more than epsilon " + promise +
             " allows: do not rely on this run.\n";
    case privacy::AuditVerdict::kInconclusive:
      break;
  }
  return "Even a broken mechanism would not have shown more than epsilon " + promise +
         " here: take more canaries, or audit a job with a smaller epsilon, or with clip.kind "
         "\"flat\" "
         "instead of \"per_layer\".\n";
}

VerbOutput told(const AuditReport& report, const privacy::Promise& promise, const Options& options,
                const std::string& client) {
  VerbOutput out;
  const auto best =
      std::max_element(report.findings.begin(), report.findings.end(),
                       [](const auto& a, const auto& b) { return a.least.value < b.least.value; });
  out.data = {{"verdict", word(report.verdict)},  {"eps_claimed", promise.epsilon},
              {"eps_lower", best->least.value},   {"delta", promise.delta},
              {"confidence", options.confidence}, {"client", client},
              {"canaries", report.canaries},      {"planted", report.planted},
              {"trained_values", report.values},  {"releases", report.releases},
              {"attacks", json::array()}};
  std::vector<std::vector<std::string>> rows{
      {"attack", "guesses", "right", "epsilon at least", "had all been right"}};
  for (const auto& finding : report.findings) {
    rows.push_back({finding.attack, std::to_string(finding.count.guesses),
                    std::to_string(finding.count.correct), number_text(finding.least.value, 3),
                    number_text(finding.most.value, 3)});
    out.data["attacks"].push_back({{"attack", finding.attack},
                                   {"guesses", finding.count.guesses},
                                   {"correct", finding.count.correct},
                                   {"eps_lower", finding.least.value},
                                   {"eps_lower_if_all_right", finding.most.value}});
  }
  out.text = fmt::format("claimed   {}\ncanaries  {} of {}, in {} releases of {} values\n\n",
                         privacy::sentence(promise), report.planted, report.canaries,
                         report.releases, report.values);
  out.text += table(rows) + "\n";
  out.text += fmt::format("{}  at confidence {:g}. {}", word(report.verdict), options.confidence,
                          explained(report.verdict, promise.epsilon));
  out.status = report.verdict == privacy::AuditVerdict::kViolated ? 1 : 0;
  return out;
}

Result<VerbOutput> audit(const Options& options, Context& context) {
  auto job = read_job(context.disk, options.job, options.settings);
  if (!job) return fail(std::move(job).error());
  auto promise = promise_of(*job, options.job);
  if (!promise) return fail(std::move(promise).error());
  if (!*promise) return fail(no_promise(options, "promises nothing", "an audit tests a promise"));
  const auto& p = **promise;
  if (!std::isfinite(p.epsilon)) {
    return fail(no_promise(options, "has seeded noise or none", "an audit tests a promise"));
  }
  if (p.mode != "example_dpsgd") {
    return fail(no_promise(options, "is of mode \"" + p.mode + "\"",
                           "the canaries are units of \"example_dpsgd\""));
  }
  auto client = client_of(*job, options);
  if (!client) return fail(std::move(client).error());
  auto base = base_model(context.disk, *job);
  if (!base) return fail(std::move(base).error());
  auto set =
      adapter::AdapterSet::make((*client)->adapter, client::linear_shapes(*base), sys::Stream(0));
  if (!set) return fail(std::move(set).error(), "client " + (*client)->name);
  auto mechanism = dp_sgd_of(*job, p, set->trainable_count());
  if (!mechanism) return fail(std::move(mechanism).error());
  std::random_device entropy;
  AuditRequest request{
      .adapter = (*client)->adapter,
      .training = job->training,
      .mechanism = std::move(*mechanism),
      .schedule = p.schedule,
      .restart = job->aggregation.restart == "fresh" ? protocol::Restart::kFresh
                                                     : protocol::Restart::kKeep,
      .claimed = {p.epsilon},
      .delta = {p.delta},
      .confidence = options.confidence,
      .canaries = options.canaries,
      .seed = options.seed.value_or(static_cast<std::uint64_t>(entropy()) << 32 | entropy())};
  auto report = audit_run(request, *base, context);
  if (!report) return fail(std::move(report).error());
  return told(*report, p, options, (*client)->name);
}

}  // namespace

Verb privacy_audit_verb() {
  return {.name = "privacy audit",
          .help = "attacks a run of the job with canaries: is its promise kept?",
          .example = "strata privacy audit configs/quickstart-private.json --canaries 2000",
          .declare = [](CLI::App& command) -> RunVerb {
            auto options = std::make_shared<Options>();
            command.add_option("job", options->job, "job file")->required();
            command.add_option("--set", options->settings,
                               "KEY=VALUE over the job file; repeatable");
            command.add_option("--client", options->client,
                               "whose adapter is trained (default: the first)");
            command
                .add_option("--canaries", options->canaries,
                            "units that may be in (default: as many as the claim needs)")
                ->check(CLI::PositiveNumber);
            command.add_option("--confidence", options->confidence, "that a violation is one")
                ->check(CLI::Range(0.5, 0.999999));
            command.add_option("--seed", options->seed, "of the coins (default: from the system)");
            return [options](Context& context) { return audit(*options, context); };
          }};
}

}  // namespace strata::cli

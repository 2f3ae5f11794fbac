#include "cli/federation.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <mutex>
#include <optional>
#include <thread>

#include "cli/run_folder.h"
#include "evaluation/exact_match.h"
#include "evaluation/generate.h"

namespace strata::cli {
namespace {

using coordinator::RoundReport;

constexpr double kNotMeasured = std::numeric_limits<double>::quiet_NaN();

class Run {
 public:
  Run(Federation federation, const Job& job, const std::string& directory, RunTools& tools)
      : federation_(std::move(federation)),
        job_(job),
        tools_(tools),
        folder_(tools.disk, directory, job) {}

  Result<RunSummary> all();

 private:
  // What is left of a client's round once the coordinator has its update.
  struct Trained {
    client::RoundStats stats;
    std::size_t bytes_up = 0;
  };
  using Outcome = Result<Trained>;

  Result<void> round(std::uint32_t number);
  std::vector<Outcome> train(const client::RoundTask& task);
  Outcome hand_over(Result<client::RoundResult> result);
  Result<void> tell_clients(std::uint32_t number, const std::vector<Outcome>& outcomes);
  void tell_aggregate(const RoundReport& report, double seconds);
  Result<void> restart(const RoundReport& report);
  Result<void> evaluate(std::uint32_t number);
  Result<void> client_losses(bool before);
  /// What stands beside the base: averaged factors, or the initial adapter before the first round.
  Result<std::optional<adapter::AdapterSet>> beside(std::uint32_t number) const;
  evaluation::EvaluationOptions evaluation_options() const;
  int workers() const {
    return std::max(1, tools_.threads / static_cast<int>(job_.training.threads));
  }
  ClientSummary& summary_of(const std::string& client);

  Federation federation_;
  const Job& job_;
  RunTools& tools_;
  RunFolder folder_;
  RunSummary summary_;
  std::vector<model::Workspace> workspaces_;  // one a worker, for the whole run
};

ClientSummary& Run::summary_of(const std::string& client) {
  return *std::find_if(summary_.clients.begin(), summary_.clients.end(),
                       [&](const auto& c) { return c.name == client; });
}

evaluation::EvaluationOptions Run::evaluation_options() const {
  return {.pass_tokens = 1024,
          .workers = workers(),
          .threads_per_worker = static_cast<int>(job_.training.threads),
          .stopped = tools_.stopped};
}

Result<std::optional<adapter::AdapterSet>> Run::beside(std::uint32_t number) const {
  std::map<std::string, adapter::Factors> factors;
  if (number == 0) factors = federation_.initial;
  for (const auto& [name, pair] : federation_.coordinator.mean_factors()) {
    factors.emplace(name.substr(0, name.size() - std::string_view(".weight").size()),
                    adapter::Factors{pair.b, pair.a});
  }
  if (factors.empty()) return std::nullopt;
  auto set = adapter::AdapterSet::from_factors(
      client::linear_shapes(federation_.coordinator.model()), factors);
  if (!set) return fail(std::move(set).error());
  set->prepare(federation_.coordinator.model().compute());
  return std::optional<adapter::AdapterSet>(std::move(*set));
}

Result<void> Run::evaluate(std::uint32_t number) {
  if (federation_.held_out.empty()) return {};
  const double start = tools_.clock.seconds();
  auto adapters = beside(number);
  if (!adapters) return fail(std::move(adapters).error());
  const auto* set = adapters->has_value() ? &adapters->value() : nullptr;
  auto report = evaluation::evaluate(federation_.coordinator.model(), set, federation_.held_out,
                                     evaluation_options());
  if (!report) return fail(std::move(report).error(), "evaluating round " + std::to_string(number));
  EvaluationSummary summary{.round = number,
                            .loss = report->loss(),
                            .perplexity = report->perplexity(),
                            .trained_tokens = report->trained_tokens};
  observe::Event event{
      .name = "evaluation",
      .fields = {{"round", static_cast<std::int64_t>(number)},
                 {"loss", summary.loss},
                 {"perplexity", summary.perplexity},
                 {"trained_tokens", static_cast<std::int64_t>(summary.trained_tokens)}}};
  const bool at_end = number == 0 || number == static_cast<std::uint32_t>(job_.aggregation.rounds);
  if (job_.evaluation.exact_match && at_end) {
    const text::ExampleBuilder builder(*federation_.text.text, federation_.text.options);
    auto matches = evaluation::exact_match(
        federation_.coordinator.model(), set, *federation_.text.text, builder,
        federation_.held_out_records,
        {.max_new_tokens = static_cast<std::size_t>(job_.evaluation.max_new_tokens),
         .workers = workers(),
         .threads_per_worker = static_cast<int>(job_.training.threads),
         .stopped = tools_.stopped});
    if (!matches) return fail(std::move(matches).error(), "generating answers");
    summary.exact_match = matches->share();
    event.fields.emplace_back("exact_match", summary.exact_match);
  }
  event.fields.emplace_back("seconds", tools_.clock.seconds() - start);
  tools_.observer.on(event);
  summary_.evaluations.push_back(summary);
  return {};
}

Result<void> Run::client_losses(bool before) {
  const auto limit = static_cast<std::size_t>(job_.evaluation.client_records);
  auto adapters = beside(before ? 0 : 1);
  if (!adapters) return fail(std::move(adapters).error());
  for (const auto& trainer : federation_.trainers) {
    double loss = kNotMeasured;
    if (limit > 0) {
      auto own = trainer.examples();
      auto report = evaluation::evaluate(
          federation_.coordinator.model(), adapters->has_value() ? &adapters->value() : nullptr,
          own.first(std::min(limit, own.size())), evaluation_options());
      if (!report) return fail(std::move(report).error(), "client " + trainer.name());
      loss = report->loss();
    }
    auto& summary = summary_of(trainer.name());
    (before ? summary.loss_before : summary.loss_after) = loss;
  }
  return {};
}

std::vector<Run::Outcome> Run::train(const client::RoundTask& task) {
  auto& trainers = federation_.trainers;
  std::vector<Outcome> outcomes(
      trainers.size(), fail(Error{.code = ErrorCode::kInterrupted, .what = "stopped by a signal"}));
  std::atomic<std::size_t> next{0};
  std::mutex handing_over;
  const auto work = [&](model::Workspace& workspace) {
    client::RoundTools tools{.clock = tools_.clock,
                             .observer = tools_.observer,
                             .workspace = workspace,
                             .stopped = tools_.stopped};
    for (std::size_t i = next++; i < trainers.size() && !tools_.stopped(); i = next++) {
      auto result = trainers[i].run_round(federation_.coordinator.model(), task, tools);
      const std::lock_guard lock(handing_over);
      outcomes[i] = hand_over(std::move(result));
    }
  };
  const auto count = std::min<std::size_t>(static_cast<std::size_t>(workers()), trainers.size());
  while (workspaces_.size() < count)
    workspaces_.emplace_back(static_cast<int>(job_.training.threads));
  std::vector<std::jthread> threads;
  for (std::size_t t = 1; t < count; ++t) threads.emplace_back([&, t] { work(workspaces_[t]); });
  work(workspaces_.front());
  threads.clear();  // joins
  return outcomes;
}

// Updates go to the coordinator as they come: what waits for the others lies in its store.
Run::Outcome Run::hand_over(Result<client::RoundResult> result) {
  if (!result) return fail(std::move(result).error());
  std::size_t bytes = 0;
  for (const auto& [tensor, delta] : result->update.delta)
    bytes += delta.value_count() * sizeof(float);
  if (auto taken = federation_.coordinator.accept(std::move(result->update)); !taken)
    return fail(std::move(taken).error());
  return Trained{.stats = result->stats, .bytes_up = bytes};
}

// A client that failed or whose update does not fit is left out of the round by name; the others go
// on. Without a disk nobody does.
Result<void> Run::tell_clients(std::uint32_t number, const std::vector<Outcome>& outcomes) {
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    const std::string& name = federation_.trainers[i].name();
    const Outcome& outcome = outcomes[i];
    if (!outcome) {
      const Error& error = outcome.error();
      if (error.code == ErrorCode::kDiskFull || error.code == ErrorCode::kIo) return fail(error);
      // A client's own failure says its name already.
      const std::string line = error.line();
      const std::string prefix = line.starts_with("client " + name) ? "" : "client " + name + ": ";
      summary_.refused.push_back("round " + std::to_string(number) + ": " + prefix + line);
      tools_.observer.on(
          {.name = "client_refused",
           .fields = {
               {"round", static_cast<std::int64_t>(number)}, {"client", name}, {"reason", line}}});
      continue;
    }
    const auto& [stats, bytes] = *outcome;
    auto& summary = summary_of(name);
    summary.bytes_up += bytes;
    ++summary.rounds;
    summary_.tokens += stats.tokens;
    summary_.train_seconds += stats.seconds;
    tools_.observer.on({.name = "client_round",
                        .fields = {{"round", static_cast<std::int64_t>(number)},
                                   {"client", name},
                                   {"rank", static_cast<std::int64_t>(summary.rank)},
                                   {"steps", stats.steps},
                                   {"loss_before", stats.first_loss},
                                   {"loss_after", stats.last_loss},
                                   {"tokens", static_cast<std::int64_t>(stats.tokens)},
                                   {"bytes_up", static_cast<std::int64_t>(bytes)},
                                   {"seconds", stats.seconds}}});
  }
  return {};
}

void Run::tell_aggregate(const RoundReport& report, double seconds) {
  const auto& packet = report.aggregate.packet;
  std::size_t bytes = packet.byte_count();
  for (const auto& [name, pair] : report.aggregate.mean_factors)
    bytes += (pair.a.size() + pair.b.size()) * sizeof(float);
  for (auto& client : summary_.clients) client.bytes_down += bytes;
  std::vector<std::pair<std::string, observe::Value>> fields{
      {"round", static_cast<std::int64_t>(report.round)},
      {"method", job_.aggregation.method},
      {"clients", static_cast<std::int64_t>(report.clients.size())},
      {"rank", static_cast<std::int64_t>(packet.max_rank())},
      {"bytes", static_cast<std::int64_t>(bytes)},
      {"seconds", seconds},
      {"packet_hash", hex(report.packet)},
      {"chain_hash", hex(report.chain)}};
  if (job_.aggregation.measure) {
    fields.emplace_back("relative_error", report.exactness.relative_error);
    fields.emplace_back("worst_tensor_error", report.exactness.worst_tensor_error);
    fields.emplace_back("worst_tensor", report.exactness.worst_tensor);
    fields.emplace_back("factor_averaging_error", report.exactness.factor_averaging_error);
    fields.emplace_back("update_norm", report.exactness.update_norm);
  }
  tools_.observer.on({.name = "aggregate", .fields = std::move(fields)});
}

Result<void> Run::restart(const RoundReport& report) {
  const auto policy = federation_.coordinator.restart();
  for (auto& trainer : federation_.trainers) {
    // A client left out of this round starts afresh whatever the policy: its factors were not
    // folded.
    const bool used = std::find(report.clients.begin(), report.clients.end(), trainer.name()) !=
                      report.clients.end();
    const auto own =
        !used && policy == protocol::Restart::kKeep ? protocol::Restart::kFresh : policy;
    if (auto done = trainer.restart(own, report.round, report.aggregate.mean_factors); !done) {
      return fail(std::move(done).error(), "client " + trainer.name());
    }
  }
  return {};
}

Result<void> Run::round(std::uint32_t number) {
  const double begin = tools_.clock.seconds();
  auto outcomes = train({.round = number,
                         .rounds = static_cast<std::uint32_t>(job_.aggregation.rounds),
                         .base = federation_.coordinator.chain(),
                         .restart = federation_.coordinator.restart()});
  if (tools_.stopped()) {
    return fail({.code = ErrorCode::kInterrupted,
                 .what = "stopped by a signal in round " + std::to_string(number),
                 .remedy = number > 1 ? "finished rounds are in the run folder" : ""});
  }
  if (auto told = tell_clients(number, outcomes); !told) return told;
  const double start = tools_.clock.seconds();
  auto report = federation_.coordinator.close();
  if (!report) {
    if (!summary_.refused.empty()) return fail(std::move(report).error(), summary_.refused.back());
    return fail(std::move(report).error());
  }
  tell_aggregate(*report, tools_.clock.seconds() - start);
  if (auto written = folder_.write_round(*report, federation_.coordinator); !written)
    return written;
  tools_.rounds_finished = number;
  if (auto restarted = restart(*report); !restarted) return restarted;
  report->aggregate.packet = {};
  report->aggregate.mean_factors.clear();
  summary_.rounds.push_back(std::move(*report));
  std::size_t idle = 0;
  for (const auto& trainer : federation_.trainers) idle += trainer.idle_bytes();
  tools_.observer.on({.name = "round",
                      .fields = {{"round", static_cast<std::int64_t>(number)},
                                 {"seconds", tools_.clock.seconds() - begin},
                                 {"idle_bytes", static_cast<std::int64_t>(idle)}}});
  if (number % static_cast<std::uint32_t>(job_.evaluation.every) == 0 ||
      number == static_cast<std::uint32_t>(job_.aggregation.rounds)) {
    return evaluate(number);
  }
  return {};
}

Result<RunSummary> Run::all() {
  const double start = tools_.clock.seconds();
  for (const auto& trainer : federation_.trainers) {
    summary_.clients.push_back({.name = trainer.name(),
                                .rank = trainer.rank(),
                                .records = trainer.examples().size(),
                                .loss_before = kNotMeasured,
                                .loss_after = kNotMeasured});
  }
  tools_.observer.on(
      {.name = "run_started",
       .fields = {{"rounds", job_.aggregation.rounds},
                  {"clients", static_cast<std::int64_t>(summary_.clients.size())},
                  {"method", job_.aggregation.method},
                  {"restart", job_.aggregation.restart},
                  {"parameters",
                   static_cast<std::int64_t>(federation_.coordinator.model().parameter_count())},
                  {"threads", static_cast<std::int64_t>(tools_.threads)}}});
  if (auto ok = folder_.begin(federation_.text, federation_.data); !ok)
    return fail(std::move(ok).error());
  if (auto ok = evaluate(0); !ok) return fail(std::move(ok).error());
  if (auto ok = client_losses(true); !ok) return fail(std::move(ok).error());
  for (std::uint32_t number = 1; number <= static_cast<std::uint32_t>(job_.aggregation.rounds);
       ++number) {
    if (auto ok = round(number); !ok) return fail(std::move(ok).error());
  }
  if (auto ok = client_losses(false); !ok) return fail(std::move(ok).error());
  const auto model = std::move(federation_.coordinator).finish();
  summary_.final_model = model.state_hash();
  summary_.seconds = tools_.clock.seconds() - start;
  summary_.peak_memory_bytes = sys::peak_memory_bytes();
  if (auto ok = folder_.finish(model, summary_); !ok) return fail(std::move(ok).error());
  tools_.observer.on(
      {.name = "run_finished",
       .fields = {{"seconds", summary_.seconds},
                  {"tokens", static_cast<std::int64_t>(summary_.tokens)},
                  {"peak_memory_bytes", static_cast<std::int64_t>(summary_.peak_memory_bytes)},
                  {"final_model_hash", hex(summary_.final_model)}}});
  return std::move(summary_);
}

}  // namespace

Result<RunSummary> run_federation(Federation federation, const Job& job,
                                  const std::string& directory, RunTools& tools) {
  return Run(std::move(federation), job, directory, tools).all();
}

}  // namespace strata::cli

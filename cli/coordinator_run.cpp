#include "cli/coordinator_run.h"

#include <algorithm>
#include <limits>

#include "evaluation/exact_match.h"
#include "evaluation/generate.h"

namespace strata::cli {
namespace {

void add_descent(observe::Event& event, const coordinator::Descent& descent) {
  event.fields.emplace_back("gradient_norm", descent.gradient_norm);
  event.fields.emplace_back("update_norm", descent.update_norm);
  event.fields.emplace_back("gradient_cosine", descent.cosine);
  event.fields.emplace_back("descent", descent.descent);
}

std::int64_t whole(std::uint64_t value) { return static_cast<std::int64_t>(value); }

}  // namespace

CoordinatorRun::CoordinatorRun(const Job& job, const TextSide& text,
                               std::span<const text::Example> held_out,
                               std::span<const text::Record> held_out_records, RunFolder& folder,
                               RunTools& tools)
    : job_(job),
      text_(text),
      held_out_(held_out),
      held_out_records_(held_out_records),
      folder_(folder),
      tools_(tools) {}

int CoordinatorRun::workers() const {
  return std::max(1, tools_.threads / static_cast<int>(job_.training.threads));
}

evaluation::EvaluationOptions CoordinatorRun::evaluation_options() const {
  return {.pass_tokens = 1024,
          .workers = workers(),
          .threads_per_worker = static_cast<int>(job_.training.threads),
          .stopped = tools_.stopped};
}

ClientSummary& CoordinatorRun::summary_of(const std::string& client) {
  return *std::find_if(summary_.clients.begin(), summary_.clients.end(),
                       [&](const auto& c) { return c.name == client; });
}

Result<std::unique_ptr<adapter::AdapterSet>> CoordinatorRun::beside(
    const model::Model& model, const std::map<std::string, adapter::Factors>& initial,
    const protocol::MeanFactors& mean) {
  std::map<std::string, adapter::Factors> factors = initial;
  for (const auto& [name, pair] : mean) {
    factors.emplace(name.substr(0, name.size() - std::string_view(".weight").size()),
                    adapter::Factors{pair.b, pair.a});
  }
  if (factors.empty()) return nullptr;
  auto set = adapter::AdapterSet::from_factors(client::linear_shapes(model), factors);
  if (!set) return fail(std::move(set).error());
  set->prepare(model.compute());
  return std::make_unique<adapter::AdapterSet>(std::move(*set));
}

Result<void> CoordinatorRun::evaluate(std::uint32_t round, const model::Model& model,
                                      const adapter::AdapterSet* beside) {
  if (held_out_.empty()) return {};
  const double start = tools_.clock.seconds();
  auto report = evaluation::evaluate(model, beside, held_out_, evaluation_options());
  if (!report) return fail(std::move(report).error(), "evaluating round " + std::to_string(round));
  EvaluationSummary summary{.round = round,
                            .loss = report->loss(),
                            .images = text_.images.has_value(),
                            .perplexity = report->perplexity(),
                            .accuracy = report->accuracy(),
                            .trained_tokens = report->trained_tokens};
  observe::Event event{.name = "evaluation",
                       .fields = {{"round", whole(round)},
                                  {"loss", summary.loss},
                                  {"accuracy", summary.accuracy},
                                  {"trained_tokens", whole(summary.trained_tokens)}}};
  if (!summary.images) event.fields.emplace_back("perplexity", summary.perplexity);
  const bool at_end = round == 0 || round == static_cast<std::uint32_t>(job_.aggregation.rounds);
  if (job_.evaluation.exact_match && at_end) {
    const text::ExampleBuilder builder(*text_.text, text_.options);
    auto matches = evaluation::exact_match(
        model, beside, *text_.text, builder, held_out_records_,
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

void CoordinatorRun::opened(const coordinator::RoundOpened& r) {
  round_began_ = tools_.clock.seconds();
  accepted_.clear();
  selected_ = {r.selected.begin(), r.selected.end()};
  out_.clear();
}

void CoordinatorRun::accepted(const coordinator::UpdateAccepted& r) { accepted_[r.client] = r; }

void CoordinatorRun::use(const coordinator::UpdateAccepted& update) {
  auto& summary = summary_of(update.client);
  summary.bytes_up += update.size;
  ++summary.rounds;
  summary_.tokens += update.training.tokens;
  summary_.train_seconds += update.training.seconds;
}

// A client's own failure says its name already.
void CoordinatorRun::refuse(const coordinator::ClientOut& out) {
  out_.insert(out.client);
  const std::string prefix =
      out.reason.starts_with("client " + out.client) ? "" : "client " + out.client + ": ";
  summary_.refused.push_back("round " + std::to_string(out.round) + ": " + prefix + out.reason);
}

void CoordinatorRun::left_out(const coordinator::ClientOut& r) {
  refuse(r);
  tools_.observer.on(
      {.name = "client_refused",
       .fields = {{"round", whole(r.round)}, {"client", r.client}, {"reason", r.reason}}});
}

Result<void> CoordinatorRun::closed(const coordinator::RoundReport& report,
                                    const coordinator::Coordinator& core, double seconds) {
  core_ = &core;
  const ToldRound told =
      report.round == closed_before_ ? folder_.told_of(report.round) : ToldRound{};
  for (const auto& client : report.clients) {
    const auto& update = accepted_.at(client);
    const auto& t = update.training;
    use(update);
    if (told.clients.contains(client)) continue;
    observe::Event event{.name = "client_round",
                         .fields = {{"round", whole(report.round)},
                                    {"client", client},
                                    {"rank", whole(summary_of(client).rank)},
                                    {"steps", whole(t.steps)},
                                    {"loss_before", t.first_loss},
                                    {"loss_after", t.last_loss},
                                    {"tokens", whole(t.tokens)},
                                    {"bytes_up", whole(update.size)},
                                    {"seconds", t.seconds}}};
    if (job_.aggregation.encoding != "f32")
      event.fields.emplace_back("encoding_error", t.encoding_error);
    tools_.observer.on(event);
  }
  if (!told.aggregate) tell_aggregate(report, seconds);
  if (auto written = folder_.write_round(report, core); !written) return written;
  // Without the change itself, which is large.
  coordinator::RoundReport kept{.round = report.round,
                                .aggregate = {},
                                .exactness = report.exactness,
                                .diagnostics = {},
                                .descent = {},
                                .clients = report.clients,
                                .packet = report.packet,
                                .chain = report.chain};
  summary_.rounds.push_back(std::move(kept));
  return {};
}

void CoordinatorRun::tell_descent(std::uint32_t round, const coordinator::MergeDescent& descent) {
  observe::Event event{.name = "gradient",
                       .fields = {{"round", whole(round)},
                                  {"records_of", descent.records_of},
                                  {"records", whole(descent.records)},
                                  {"loss", descent.loss}}};
  add_descent(event, descent.whole);
  tools_.observer.on(event);
}

void CoordinatorRun::tell_aggregate(const coordinator::RoundReport& report, double seconds) {
  const auto& packet = report.aggregate.packet;
  std::size_t bytes = packet.byte_count();
  for (const auto& [name, pair] : report.aggregate.mean_factors)
    bytes += (pair.a.size() + pair.b.size()) * sizeof(float);
  std::vector<std::pair<std::string, observe::Value>> fields{
      {"round", whole(report.round)},
      {"method", job_.aggregation.method},
      {"clients", whole(report.clients.size())},
      {"rank", whole(packet.max_rank())},
      {"bytes", whole(bytes)},
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
  if (report.descent) tell_descent(report.round, *report.descent);
  for (const auto& d : report.diagnostics) {
    observe::Event event{.name = "tensor",
                         .fields = {{"round", whole(report.round)},
                                    {"tensor", d.tensor},
                                    {"effective_rank", d.effective_rank},
                                    {"stable_rank", d.stable_rank},
                                    {"change_norm", d.change_norm},
                                    {"alignment_b", d.alignment_b},
                                    {"alignment_a", d.alignment_a}}};
    if (report.descent) {
      const auto own = report.descent->tensors.find(d.tensor);
      if (own != report.descent->tensors.end()) add_descent(event, own->second);
    }
    tools_.observer.on(event);
  }
}

Result<void> CoordinatorRun::committed(const coordinator::RoundCommitted& r) {
  for (auto& client : summary_.clients) client.bytes_down += r.size;
  tools_.rounds_finished = r.round;
  tools_.observer.on({.name = "round",
                      .fields = {{"round", whole(r.round)},
                                 {"seconds", tools_.clock.seconds() - round_began_},
                                 {"idle_bytes", whole(idle_bytes ? idle_bytes() : 0)}}});
  const bool due = r.round % static_cast<std::uint32_t>(job_.evaluation.every) == 0 ||
                   r.round == static_cast<std::uint32_t>(job_.aggregation.rounds);
  if (!due || core_ == nullptr) return {};
  auto set = beside(core_->model(), {}, core_->mean_factors());
  if (!set) return fail(std::move(set).error());
  return evaluate(r.round, core_->model(), set->get());
}

void CoordinatorRun::replayed(const coordinator::RoundRecord& record) {
  if (const auto* opening = std::get_if<coordinator::RoundOpened>(&record)) {
    opened(*opening);
  } else if (const auto* update = std::get_if<coordinator::UpdateAccepted>(&record)) {
    accepted(*update);
  } else if (const auto* lost = std::get_if<coordinator::UpdateLost>(&record)) {
    accepted_.erase(lost->client);
  } else if (const auto* out = std::get_if<coordinator::ClientOut>(&record)) {
    refuse(*out);
  } else if (const auto* rejected = std::get_if<coordinator::UpdateRejected>(&record)) {
    refuse({rejected->round, rejected->client, rejected->reason});
  } else if (std::holds_alternative<coordinator::RoundReopened>(record)) {
    out_.clear();
  } else if (const auto* closing = std::get_if<coordinator::RoundClosed>(&record)) {
    closed_before_ = closing->round;
    for (const auto& client : selected_) {  // those that were missing have no records of their own
      if (closing->by_deadline && !accepted_.contains(client) && !out_.contains(client))
        refuse({closing->round, client, std::string(coordinator::kNothingCame)});
    }
  } else if (const auto* done = std::get_if<coordinator::RoundCommitted>(&record)) {
    coordinator::RoundReport report;
    report.round = done->round;
    report.packet = done->packet;
    report.chain = done->chain;
    for (const auto& [client, theirs] : accepted_) {
      report.clients.push_back(client);
      use(theirs);
    }
    report.exactness.relative_error = report.exactness.factor_averaging_error =
        std::numeric_limits<double>::quiet_NaN();
    summary_.rounds.push_back(std::move(report));
    for (auto& client : summary_.clients) client.bytes_down += done->size;
    tools_.rounds_finished = done->round;
  }
}

Result<void> CoordinatorRun::resumed(const protocol::RoundChange& change,
                                     const coordinator::RoundCommitted&,
                                     const coordinator::Coordinator&) {
  return folder_.resume_round(change);
}

void CoordinatorRun::joined(const protocol::ClientId& client, const transport::Peer& peer) {
  if (!tell_peers) return;
  tools_.observer.on(
      {.name = "client_joined",
       .fields = {
           {"client", client}, {"address", peer.address}, {"authenticated", peer.authenticated}}});
}

void CoordinatorRun::left(const protocol::ClientId& client, const Error& why) {
  if (!tell_peers) return;
  tools_.observer.on(
      {.name = "client_left", .fields = {{"client", client}, {"reason", why.line()}}});
}

void CoordinatorRun::noticed(const std::string& what) {
  tools_.observer.on({.name = "message", .fields = {{"text", what}}});
}

void CoordinatorRun::done(const Result<void>& how) {
  if (on_done) on_done(how);
}

}  // namespace strata::cli

#include "cli/federation.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <optional>
#include <random>
#include <utility>

#include "adapter/seeded_factors.h"
#include "cli/central_sum.h"
#include "cli/coordinator_run.h"
#include "cli/ledger_memory.h"
#include "cli/merged_loss.h"
#include "cli/mesh_member.h"
#include "cli/plan.h"
#include "cli/private_run.h"
#include "cli/run_folder.h"
#include "cli/run_journal.h"
#include "cli/version.h"
#include "client/ahead_worker.h"
#include "client/session.h"
#include "client/trainer_worker.h"
#include "sys/executor.h"
#include "transport/in_process.h"

namespace strata::cli {
namespace {

constexpr double kNotMeasured = std::numeric_limits<double>::quiet_NaN();
constexpr std::string_view kAheadFolder = "ahead";              // in a client's
constexpr std::string_view kLedgersSeen = "ledgers-seen.json";  // beside the run folders
constexpr double kSignalSeconds = 0.05;  // between looks at whether a signal came

// The coordinator's own model, as the clients of its process see it: it has followed every round
// before they hear of it.
class CoordinatorsBase final : public client::BaseModel {
 public:
  explicit CoordinatorsBase(coordinator::Server& server) : server_(server) {}
  const model::Model& model() const override { return server_.core().model(); }
  protocol::Head head() const override { return server_.machine().head(); }
  const protocol::MeanFactors& mean_factors() const override {
    return server_.core().mean_factors();
  }
  Result<void> fold(const protocol::Head& next, ByteSpan) override {
    check(next.round <= head().round, "the coordinator is ahead of its clients");
    return {};
  }
  Result<void> take_snapshot(const protocol::Head&, const std::filesystem::path&) override {
    return fail({.code = ErrorCode::kInternal, .what = "a snapshot of the process's own model"});
  }
  void settle() override {}
  Sha256 state_hash() override { return server_.machine().state(); }

 private:
  coordinator::Server& server_;
};

// One client of the process: its conversation and what trains for it.
struct LocalClient final : client::SessionObserver {
  std::unique_ptr<transport::Dialer> dialer;
  std::optional<client::Outbox> outbox;
  std::unique_ptr<client::RoundWorker> worker;
  client::AheadWorker* ahead = nullptr;  // that `worker` is, or has inside
  std::unique_ptr<client::Session> session;
  std::function<void(const Error&)> gave_up, over_budget;
  void failed(std::uint32_t, const Error& why) override {
    if (why.code == ErrorCode::kBudget) over_budget(why);
  }
  void done(const Result<protocol::Finished>& how) override {
    if (!how && gave_up) gave_up(how.error());
  }
};

class Run {
 public:
  Run(Federation federation, const Job& job, std::filesystem::path directory, RunTools& tools,
      const Hosting& hosting)
      : federation_(std::move(federation)),
        hosting_(hosting),
        job_(job),
        directory_(std::move(directory)),
        tools_(tools),
        folder_(tools.disk, directory_, job, hosting.reports),
        observer_(job, federation_.text, federation_.held_out, federation_.held_out_records,
                  folder_, tools) {}

  Result<RunSummary> all();

 private:
  Result<void> open_server();
  Result<void> open_private_sum();
  Result<void> before_rounds();
  Result<void> open_clients();
  Result<void> open_client(const protocol::ClientId& id, client::LocalTrainer* trainer,
                           client::Budget* budget);
  Result<void> train_ahead(LocalClient& client, const protocol::ClientId& id);
  bool may_close(std::uint32_t round, std::function<void()> again);
  Result<void> rounds();
  void rounds_done(Result<void> how);
  Result<void> client_losses(bool before);
  Result<void> write_up();
  void tell_end();
  void watch_signals();
  void stop(Result<void> how);

  [[nodiscard]] bool remote() const { return static_cast<bool>(hosting_.listener); }
  // Null for a client that is elsewhere.
  [[nodiscard]] client::LocalTrainer* trainer_of(const protocol::ClientId& id) {
    const auto at = std::find_if(federation_.trainers.begin(), federation_.trainers.end(),
                                 [&](const auto& trainer) { return trainer.name() == id; });
    return at == federation_.trainers.end() ? nullptr : &*at;
  }

  Federation federation_;
  const Hosting& hosting_;
  const Job& job_;
  std::filesystem::path directory_;
  RunTools& tools_;
  RunFolder folder_;
  CoordinatorRun observer_;
  std::shared_ptr<sys::Loop> loop_ = hosting_.loop ? hosting_.loop : sys::make_loop(tools_.clock);
  transport::InProcess transport_{*loop_};
  std::unique_ptr<coordinator::LedgerMemory> ledgers_;
  std::shared_ptr<CentralSum> private_sum_;  // of client_central
  std::unique_ptr<coordinator::Server> server_;
  std::unique_ptr<CoordinatorsBase> base_;
  std::unique_ptr<transport::Listener> listener_;
  MeshMember mesh_{hosting_, job_, tools_.disk, directory_};
  std::vector<std::unique_ptr<LocalClient>> clients_;
  std::unique_ptr<client::TrainingPool> pool_;  // gone first: it waits for what still trains
  std::function<void()> close_again_;           // of a round that waits for may_close()
  std::optional<Result<void>> ended_;
  std::optional<Error> over_budget_;  // of the first client whose owner did not go on
  const double start_ = tools_.clock.seconds();
  bool written_up_ = false;
  bool was_done_ = false;          // when this process began
  bool waits_for_others_ = false;  // whose rounds are not over yet
};

Result<void> Run::open_private_sum() {
  if (job_.privacy.mode != "client_central") return {};
  check(static_cast<bool>(federation_.common), "client_central needs the common factors");
  auto common = federation_.common(1);
  if (!common) return fail(std::move(common).error());
  auto sum =
      open_central_sum(tools_.disk, job_, *federation_.promise, coordinator::values_of(*common));
  if (!sum) return fail(std::move(sum).error());
  private_sum_ = std::move(*sum);
  federation_.coordinator.make_private(private_sum_, std::move(federation_.common));
  return {};
}

Result<void> Run::open_server() {
  std::vector<ClientSummary> clients;
  for (const auto& planned : federation_.planned) {
    std::size_t rank = 0;
    for (const auto& [name, r] : planned.ranks) rank = std::max(rank, r);
    clients.push_back({.name = planned.client,
                       .rank = rank,
                       .loss_before = kNotMeasured,
                       .loss_after = kNotMeasured});
  }
  for (auto& client : clients) {
    const auto* trainer = trainer_of(client.name);
    if (trainer != nullptr && tells_of_records(job_)) client.records = trainer->examples().size();
  }
  observer_.set_clients(std::move(clients));
  observer_.tell_peers = remote();
  observer_.idle_bytes = [this] {
    std::size_t idle = 0;
    if (!tells_of_records(job_)) return idle;
    for (const auto& trainer : federation_.trainers) idle += trainer.idle_bytes();
    return idle;
  };
  // Whoever only wants the result does not wait for clients that may come to hear of the end.
  if (remote()) observer_.on_over = [this] { return write_up(); };
  observer_.on_done = [this](Result<void> how) { rounds_done(std::move(how)); };
  auto config = server_config(job_, federation_.planned, federation_.coordinator.model());
  mesh_.share_out(
      config, federation_.planned, federation_.coordinator.model(),
      [this](const protocol::ClientId& client) { return trainer_of(client) != nullptr; },
      [this]() -> const coordinator::RoundMachine& { return server_->machine(); });
  config.folder = directory_ / kStateFolder;
  config.keep_updates = job_.output.keep_updates;
  config.durability = hosting_.durability;
  if (job_.aggregation.overlap) {
    config.may_close = [this](std::uint32_t round, std::function<void()> again) {
      return may_close(round, std::move(again));
    };
  }
  if (remote()) {
    config.plan_of = [plan = Plan(job_)](const protocol::ClientId& client) {
      return plan.of(client);
    };
  } else {
    config.deadline_seconds = 0.0;  // a process does not wait for itself
  }
  if (remote() && job_.privacy.on()) {
    auto folder = std::filesystem::absolute(directory_).lexically_normal();
    if (!folder.has_filename()) folder = folder.parent_path();  // "runs/a/"
    auto memory = open_ledger_memory(tools_.disk, folder.parent_path() / kLedgersSeen);
    if (!memory) return fail(std::move(memory).error());
    ledgers_ = std::move(*memory);
  }
  if (auto opened = open_private_sum(); !opened) return opened;
  federation_.coordinator.measure_descent(loss_of_merged(
      job_, federation_.trainers, federation_.held_out, tools_.threads, tools_.stopped));
  auto server =
      coordinator::Server::open(std::move(config), std::move(federation_.coordinator),
                                {*loop_, tools_.clock, tools_.disk, observer_, ledgers_.get()});
  if (!server) return fail(std::move(server).error());
  server_ = std::move(*server);
  was_done_ = server_->machine().phase() == coordinator::Phase::kDone &&
              tools_.disk.exists(directory_ / "manifest.json");
  base_ = std::make_unique<CoordinatorsBase>(*server_);
  return {};
}

Result<void> Run::client_losses(bool before) {
  const auto limit =
      tells_of_records(job_) ? static_cast<std::size_t>(job_.evaluation.client_records) : 0;
  const model::Model& model = server_->core().model();
  auto beside = before ? CoordinatorRun::beside(model, federation_.initial, {})
                       : CoordinatorRun::beside(model, {}, server_->core().mean_factors());
  if (!beside) return fail(std::move(beside).error());
  for (auto& summary : observer_.summary().clients) {
    const auto* trainer = trainer_of(summary.name);
    if (trainer == nullptr) continue;
    double loss = kNotMeasured;
    if (limit > 0) {
      auto own = trainer->examples();
      auto report =
          evaluation::evaluate(model, beside->get(), own.first(std::min(limit, own.size())),
                               observer_.evaluation_options());
      if (!report) return fail(std::move(report).error(), "client " + summary.name);
      loss = report->loss();
    }
    (before ? summary.loss_before : summary.loss_after) = loss;
  }
  return {};
}

// What is measured on the base: not when the run goes on from a later model.
Result<void> Run::before_rounds() {
  const bool resumes = server_->machine().head().round > 0;
  tools_.observer.on({.name = "run_started",
                      .fields = {{"rounds", job_.aggregation.rounds},
                                 {"clients", static_cast<std::int64_t>(federation_.planned.size())},
                                 {"method", job_.aggregation.method},
                                 {"restart", job_.aggregation.restart},
                                 {"parameters", static_cast<std::int64_t>(
                                                    server_->core().model().parameter_count())},
                                 {"threads", static_cast<std::int64_t>(tools_.threads)}}});
  if (resumes) {
    observer_.noticed("going on after round " + std::to_string(server_->machine().head().round));
    return {};
  }
  const auto data = tells_of_records(job_) ? federation_.data : std::vector<ClientData>{};
  const auto statement = statement_of(job_, federation_.promise);
  if (auto ok = folder_.begin(federation_.text, data, statement); !ok) return ok;
  auto beside = CoordinatorRun::beside(server_->core().model(), federation_.initial, {});
  if (!beside) return fail(std::move(beside).error());
  if (auto ok = observer_.evaluate(0, server_->core().model(), beside->get()); !ok) return ok;
  return client_losses(true);
}

Result<void> Run::open_clients() {
  const int threads = static_cast<int>(job_.training.threads);
  const auto wanted = std::max(1, tools_.threads / threads);
  if (federation_.trainers.empty()) return {};
  pool_ = std::make_unique<client::TrainingPool>(
      std::min<int>(wanted, static_cast<int>(federation_.trainers.size())), threads);
  for (const auto& planned : federation_.planned) {
    auto* trainer = trainer_of(planned.client);
    if (trainer == nullptr && mesh_.peers() == nullptr) continue;
    client::Budget* budget = nullptr;
    if (trainer != nullptr && !federation_.budgets.empty()) {
      const auto at = trainer - federation_.trainers.data();
      budget = federation_.budgets[static_cast<std::size_t>(at)].get();
    }
    if (auto opened = open_client(planned.client, trainer, budget); !opened) return opened;
  }
  return {};
}

// A client of this process, or, without a trainer, of another member.
Result<void> Run::open_client(const protocol::ClientId& id, client::LocalTrainer* trainer,
                              client::Budget* budget) {
  const bool shows =
      mesh_.peers() != nullptr && trainer != nullptr;  // its updates to the other members
  auto one = std::make_unique<LocalClient>();
  one->over_budget = [this](const Error& why) {
    if (!over_budget_) over_budget_ = why;
    observer_.noticed(why.line());
  };
  auto outbox = client::Outbox::open(tools_.disk, directory_ / kStateFolder / "clients" / id,
                                     sys::Durability::kProcess, /*own_lock=*/false);
  if (!outbox) return fail(std::move(outbox).error(), "client " + id);
  one->outbox = std::move(*outbox);
  one->dialer = transport_.dialer(id);
  if (trainer == nullptr) {
    one->worker = mesh_.peers()->remote(id);
  } else {
    one->worker = client::make_trainer_worker(
        *trainer, {.executor = *loop_,
                   .clock = tools_.clock,
                   .observer = tools_.observer,
                   .pool = *pool_,
                   .base = *base_,
                   .encoding = protocol::encoding_of(job_.aggregation.encoding),
                   .budget = budget});
  }
  if (job_.aggregation.overlap && trainer != nullptr) {
    if (auto ahead = train_ahead(*one, id); !ahead) return ahead;
  }
  if (shows) one->worker = mesh_.peers()->share(id, std::move(one->worker), *one->outbox);
  one->session = std::make_unique<client::Session>(
      client::SessionConfig{.id = id,
                            .program = fmt::format("strata {}", kVersion),
                            .keep_updates = shows || one->ahead != nullptr,
                            .discreet = job_.privacy.on()},
      client::SessionTools{*loop_, tools_.disk, *one->dialer, *base_, *one->outbox, *one->worker,
                           *one});
  one->gave_up = [this](const Error& why) { stop(fail(why)); };
  clients_.push_back(std::move(one));
  return {};
}

// Its rounds are trained while those before them are merged.
Result<void> Run::train_ahead(LocalClient& client, const protocol::ClientId& id) {
  auto kept =
      client::Outbox::open(tools_.disk, directory_ / kStateFolder / "clients" / id / kAheadFolder,
                           sys::Durability::kProcess, /*own_lock=*/false);
  if (!kept) return fail(std::move(kept).error(), "client " + id);
  auto worker = std::make_unique<client::AheadWorker>(
      std::move(client.worker), std::move(*kept),
      client::AheadTools{.executor = *loop_,
                         .base = *base_,
                         .outbox = *client.outbox,
                         .rounds = static_cast<std::uint32_t>(job_.aggregation.rounds)});
  worker->lost = [this](const Error& why) { stop(fail(why)); };
  worker->moved = [this] {
    if (const auto again = std::exchange(close_again_, nullptr)) again();
  };
  client.ahead = worker.get();
  client.worker = std::move(worker);
  return {};
}

// A round closes when all clients of this process are ahead of it.
bool Run::may_close(std::uint32_t round, std::function<void()> again) {
  if (auto took_part = all_took_part(server_->machine(), round, "aggregation.overlap");
      !took_part) {
    stop(std::move(took_part));
    return false;
  }
  bool all = true;
  for (const auto& client : clients_) {
    if (client->ahead != nullptr) all = client->ahead->is_ahead_of(round) && all;
  }
  if (!all) close_again_ = std::move(again);
  return all;
}

// The other members may still need what this one's clients trained last.
void Run::rounds_done(Result<void> how) {
  if (!how || mesh_.peers() == nullptr) return stop(std::move(how));
  const auto& machine = server_->machine();
  waits_for_others_ = true;
  mesh_.peers()->finish({.head = machine.head(), .state = machine.state()},
                        [this](Result<void> all) { stop(std::move(all)); });
}

void Run::stop(Result<void> how) {
  if (ended_) return;
  ended_ = std::move(how);
  client::Peers* peers = *ended_ ? nullptr : mesh_.peers();
  // A signal comes to all members, and that one of them is gone all see.
  if (peers == nullptr || ended_->error().code == ErrorCode::kInterrupted ||
      ended_->error().code == ErrorCode::kPeer)
    return loop_->stop();
  loop_->post([this] {  // not inside what called this
    for (auto& client : clients_) client->session->interrupt("the run has ended");
    server_->interrupt("the run has ended");
  });
  peers->give_up(ended_->error(), [this] { loop_->stop(); });
}

void Run::watch_signals() {
  if (!tools_.stopped()) {
    loop_->after(kSignalSeconds, [this] { watch_signals(); });
    return;
  }
  if (ended_) return loop_->stop();
  const std::uint32_t round = server_->machine().round();
  for (auto& client : clients_) client->gave_up = nullptr;
  server_->interrupt("stopped by a signal in round " + std::to_string(round));
  for (auto& client : clients_) client->session->interrupt("stopped by a signal");
  if (waits_for_others_)
    stop(fail({.code = ErrorCode::kInterrupted,
               .what = "stopped by a signal while other ranks were at work",
               .remedy = "the same command goes on where it stopped"}));
}

Result<void> Run::rounds() {
  if (remote()) {
    auto made = hosting_.listener(*loop_, tools_.observer);
    if (!made) return fail(std::move(made).error());
    listener_ = std::move(*made);
  } else {
    listener_ = transport_.listener();
  }
  if (auto listening = listener_->listen(*server_); !listening) return listening;
  if (remote()) observer_.noticed("listening on " + listener_->address());
  server_->start();
  for (auto& client : clients_) client->session->start();
  watch_signals();
  loop_->run();
  return ended_ ? *ended_ : Result<void>{};
}

Result<RunSummary> Run::all() {
  Result<void> ok = open_server();
  if (ok && tools_.begun) ok = tools_.begun();
  if (ok) ok = mesh_.check_members();
  if (ok) ok = mesh_.open(*loop_, [this](const Error& why) { stop(fail(why)); });
  if (ok) ok = before_rounds();
  if (ok) ok = open_clients();
  if (ok) ok = rounds();
  if (ok) ok = write_up();
  if (!ok) {
    for (auto& client : clients_) client->session->interrupt("the run has ended");
    pool_.reset();
    // Too few clients because their owners' budgets are spent is a matter of those.
    if (over_budget_ && ok.error().code == ErrorCode::kQuorum) return fail(*over_budget_);
    // Clients of this process hear of a round that is refused before its coordinator's user does.
    if (private_sum_ && private_sum_->refusal() && ok.error().code == ErrorCode::kBudget)
      return fail(*private_sum_->refusal());
    return fail(std::move(ok).error());
  }
  RunSummary& summary = observer_.summary();
  if (was_done_ || !hosting_.reports) return std::move(summary);  // whoever reports clears up
  if (!hosting_.keeps_state) {  // the run is complete: there is nothing to go on from
    const auto state = directory_ / kStateFolder;
    if (auto gone = tools_.disk.remove_all(job_.output.keep_updates ? state / kRanksFolder : state);
        !gone)
      return fail(std::move(gone).error());
  }
  tell_end();
  return std::move(summary);
}

// The run folder, once.
Result<void> Run::write_up() {
  if (std::exchange(written_up_, true)) return {};
  if (auto measured = client_losses(false); !measured) return measured;
  RunSummary& summary = observer_.summary();
  summary.promise = federation_.promise;
  summary.final_model = server_->machine().state();
  summary.seconds = tools_.clock.seconds() - start_;
  summary.peak_memory_bytes = sys::peak_memory_bytes();
  // Complete before, and started again for clients that were cut off: what it says stays.
  if (was_done_ || !hosting_.reports) return {};
  return folder_.finish(server_->core().model(), summary);
}

void Run::tell_end() {
  const RunSummary& summary = observer_.summary();
  tools_.observer.on(
      {.name = "run_finished",
       .fields = {{"seconds", summary.seconds},
                  {"tokens", static_cast<std::int64_t>(summary.tokens)},
                  {"peak_memory_bytes", static_cast<std::int64_t>(summary.peak_memory_bytes)},
                  {"final_model_hash", hex(summary.final_model)}}});
}

}  // namespace

coordinator::ServerConfig server_config(const Job& job,
                                        std::span<const coordinator::PlannedUpdate> planned,
                                        const model::Model& base) {
  coordinator::ServerConfig out;
  const auto& a = job.aggregation;
  out.machine = machine_config(job);
  for (const auto& client : planned) {
    auto outline = std::make_shared<coordinator::Outline>();
    for (const auto& [name, rank] : client.ranks) {
      const auto& parameter = base.parameters()[base.find(name)];
      outline->emplace(name, protocol::TensorOutline{parameter.d_out(), parameter.d_in(),
                                                     std::vector<std::size_t>(client.terms, rank),
                                                     client.seeded});
    }
    out.expected.emplace(client.client, std::move(outline));
  }
  out.plan = sha256(bytes_of(Plan(job).whole()));
  std::random_device entropy;  // a name, no secret
  for (auto& byte : out.run) byte = static_cast<std::byte>(entropy());
  out.plan_of = [](const protocol::ClientId&) { return std::string("{}"); };
  out.encoding = a.encoding;
  out.shared = adapter::shared_stream(static_cast<std::uint64_t>(job.training.seed));
  out.deadline_seconds = a.deadline;
  return out;
}

Result<RunSummary> run_federation(Federation federation, const Job& job,
                                  const std::string& directory, RunTools& tools,
                                  const Hosting& hosting) {
  Run run(std::move(federation), job, directory, tools, hosting);
  auto summary = run.all();
  if (!summary && tools.stopping) tools.stopping(summary.error());
  return summary;
}

}  // namespace strata::cli

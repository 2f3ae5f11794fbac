#include "cli/client_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "cli/plan.h"
#include "cli/version.h"
#include "client/trainer_worker.h"
#include "protocol/problem.h"
#include "protocol/update_codec.h"

namespace strata::cli {
namespace {

constexpr double kSignalSeconds = 0.05;  // between looks at whether a signal came

std::string program() { return fmt::format("strata {}", kVersion); }

class ClientRun;

// One client: its conversation, and lines about it.
struct One final : client::SessionObserver {
  One(ClientRun& r, const client::LocalTrainer& trainer)
      : run(r), name(trainer.name()), rank(trainer.rank()) {}
  ClientRun& run;
  std::string name;
  std::size_t rank;
  std::unique_ptr<transport::Dialer> dialer;
  std::optional<client::Outbox> outbox;
  std::unique_ptr<client::RoundWorker> worker;
  std::unique_ptr<client::Session> session;

  void say(const std::string& text);
  void connected(const transport::Peer& peer, const protocol::Welcome& m) override {
    say(fmt::format("connected to {}, which is at round {}", peer.address, m.head.round));
  }
  void disconnected(const Error& why, double pause) override {
    say(fmt::format("not connected: {}; next attempt in {:.0f} s", why.line(), pause));
  }
  void trained(std::uint32_t round, const protocol::Training& t, std::uint64_t bytes) override;
  void failed(std::uint32_t round, const Error& why) override;
  void acknowledged(const protocol::Ack& a) override {
    if (a.outcome == protocol::Outcome::kAccepted || a.outcome == protocol::Outcome::kDuplicate)
      return;
    say(fmt::format("round {}: the coordinator did not take the update: {}", a.round,
                    printable(a.reason, 300)));
  }
  void done(const Result<protocol::Finished>& how) override;
};

class ClientRun {
 public:
  ClientRun(Site& site, const Job& job, const ClientHosting& hosting, RunTools& tools)
      : site_(site), job_(job), hosting_(hosting), tools_(tools) {}
  ~ClientRun() { pool_.reset(); }
  ClientRun(const ClientRun&) = delete;
  ClientRun& operator=(const ClientRun&) = delete;

  Result<ClientOutcome> run();
  void tell(const std::string& text) {
    tools_.observer.on({.name = "message", .fields = {{"text", text}}});
  }
  void count(const protocol::Training& t) {
    ++outcome_.rounds;
    outcome_.tokens += t.tokens;
  }
  void over_budget(const Error& why) {
    if (!over_budget_) over_budget_ = why;
  }
  void done(const Result<protocol::Finished>& how);
  observe::Observer& observer() { return tools_.observer; }

 private:
  Result<void> open();
  void watch_signals();

  Site& site_;
  const Job& job_;
  const ClientHosting& hosting_;
  RunTools& tools_;
  std::shared_ptr<sys::Loop> loop_ = hosting_.loop ? hosting_.loop : sys::make_loop(tools_.clock);
  std::unique_ptr<client::BaseModel> base_;
  std::vector<std::unique_ptr<One>> clients_;
  std::unique_ptr<client::TrainingPool> pool_;
  std::size_t left_ = 0;
  Plan plan_{job_};
  std::optional<Error> error_, over_budget_;
  ClientOutcome outcome_;
};

void One::say(const std::string& text) { run.tell("client " + name + ": " + text); }

void One::trained(std::uint32_t round, const protocol::Training& t, std::uint64_t bytes) {
  run.count(t);
  run.observer().on({.name = "client_round",
                     .fields = {{"round", static_cast<std::int64_t>(round)},
                                {"client", name},
                                {"rank", static_cast<std::int64_t>(rank)},
                                {"steps", static_cast<std::int64_t>(t.steps)},
                                {"loss_before", t.first_loss},
                                {"loss_after", t.last_loss},
                                {"tokens", static_cast<std::int64_t>(t.tokens)},
                                {"bytes_up", static_cast<std::int64_t>(bytes)},
                                {"seconds", t.seconds}}});
}

void One::failed(std::uint32_t round, const Error& why) {
  if (why.code == ErrorCode::kBudget) run.over_budget(why);
  say(fmt::format("round {}: {}", round, why.line()));
}

void One::done(const Result<protocol::Finished>& how) { run.done(how); }

Result<void> ClientRun::open() {
  const int threads = static_cast<int>(job_.training.threads);
  const int workers =
      std::min(std::max(1, tools_.threads / threads), static_cast<int>(site_.trainers.size()));
  auto rule = fold_rule(job_);
  if (!rule) return fail(std::move(rule).error());
  base_ = client::own_base(std::move(site_.base), tools_.disk, tools_.threads, std::move(*rule));
  pool_ = std::make_unique<client::TrainingPool>(workers, threads);
  for (std::size_t i = 0; i < site_.trainers.size(); ++i) {
    auto& trainer = site_.trainers[i];
    client::Budget* budget = site_.budgets.empty() ? nullptr : site_.budgets[i].get();
    auto one = std::make_unique<One>(*this, trainer);
    auto dialer = hosting_.dialer(*loop_, trainer.name());
    if (!dialer) return fail(std::move(dialer).error());
    one->dialer = std::move(*dialer);
    auto outbox =
        client::Outbox::open(tools_.disk, hosting_.state / trainer.name(), hosting_.durability);
    if (!outbox) return fail(std::move(outbox).error());
    one->outbox = std::move(*outbox);
    one->worker = client::make_trainer_worker(
        trainer, {.executor = *loop_,
                  .clock = tools_.clock,
                  .observer = tools_.observer,
                  .pool = *pool_,
                  .base = *base_,
                  .encoding = protocol::encoding_of(job_.aggregation.encoding),
                  .budget = budget});
    client::SessionConfig config{.id = trainer.name(),
                                 .program = program(),
                                 .check_plan =
                                     [this, name = trainer.name()](const std::string& theirs) {
                                       return compare_plans(theirs, plan_.of(name));
                                     },
                                 .discreet = job_.privacy.on(),
                                 .seed = static_cast<std::uint64_t>(job_.training.seed),
                                 .attempts_max = hosting_.attempts_max};
    one->session = std::make_unique<client::Session>(
        std::move(config), client::SessionTools{*loop_, tools_.disk, *one->dialer, *base_,
                                                *one->outbox, *one->worker, *one});
    clients_.push_back(std::move(one));
  }
  return {};
}

void ClientRun::done(const Result<protocol::Finished>& how) {
  if (how) {
    outcome_.finished = *how;
  } else if (!error_) {
    error_ = how.error();
  }
  if (--left_ == 0) loop_->stop();
}

void ClientRun::watch_signals() {
  if (!tools_.stopped()) {
    loop_->after(kSignalSeconds, [this] { watch_signals(); });
    return;
  }
  for (auto& client : clients_) client->session->interrupt("stopped by a signal");
}

Result<ClientOutcome> ClientRun::run() {
  const double start = tools_.clock.seconds();
  if (auto opened = open(); !opened) return fail(std::move(opened).error());
  left_ = clients_.size();
  for (auto& client : clients_) client->session->start();
  watch_signals();
  loop_->run();
  pool_.reset();
  if (hosting_.wants_model && !error_) site_.base = base_->model();
  outcome_.seconds = tools_.clock.seconds() - start;
  // Refused rounds went on without this client, to the end; its owner hears why.
  if (over_budget_) return fail(*over_budget_);
  if (error_) return fail(*error_);
  return outcome_;
}

// Says hello, takes the plan, and goes.
class PlanAsker final : public transport::Handler {
 public:
  PlanAsker(sys::Loop& loop, const model::Model& base) : loop_(loop), base_(base) {}
  Result<std::string> answer = fail({.code = ErrorCode::kPeer, .what = "no plan came"});

  void failed(const Error& why) {
    answer = fail(why);
    loop_.stop();
  }
  void on_open(const std::shared_ptr<transport::Connection>& connection) override {
    connection_ = connection;
    connection->trust();
    connection->send(protocol::to_frame(
        protocol::Hello{.program = program(), .head = {0, base_.state_hash()}}, {}));
  }
  void on_frame(transport::Connection&, wire::Frame frame) override {
    auto message = protocol::from_frame(std::move(frame));
    if (!message) return failed(message.error());
    if (const auto* welcome = std::get_if<protocol::Welcome>(&*message)) {
      answer = welcome->plan;
    } else if (const auto* problem = std::get_if<protocol::Problem>(&*message)) {
      answer = fail(protocol::error_of(*problem, "the coordinator"));
    }
    connection_.reset();
    loop_.stop();
  }
  void on_end(transport::Connection&, const Error& why) override { failed(why); }

 private:
  sys::Loop& loop_;
  const model::Model& base_;
  std::shared_ptr<transport::Connection> connection_;
};

}  // namespace

Result<ClientOutcome> run_clients(Site& site, const Job& job, const ClientHosting& hosting,
                                  RunTools& tools) {
  return ClientRun(site, job, hosting, tools).run();
}

Result<std::string> fetch_plan(const model::Model& base, const std::string& client,
                               const ClientHosting& hosting, RunTools& tools) {
  const auto loop = sys::make_loop(tools.clock);
  PlanAsker asker(*loop, base);
  auto dialer = hosting.dialer(*loop, client);
  if (!dialer) return fail(std::move(dialer).error());
  const std::function<void()> attempt = [&] {
    (*dialer)->dial(asker, [&](const Error& why) {
      const bool again =
          why.code == ErrorCode::kPeer && hosting.attempts_max == 0 && !tools.stopped();
      if (!again) return asker.failed(why);
      tools.observer.on(
          {.name = "message", .fields = {{"text", why.line() + "; next attempt in 2 s"}}});
      loop->after(2.0, attempt);
    });
  };
  attempt();
  const std::function<void()> watch = [&] {
    if (tools.stopped()) {
      asker.failed({.code = ErrorCode::kInterrupted, .what = "stopped by a signal"});
    } else {
      loop->after(kSignalSeconds, watch);
    }
  };
  watch();
  loop->run();
  return asker.answer;
}

}  // namespace strata::cli

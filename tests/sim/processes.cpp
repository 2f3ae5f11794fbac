#include <fmt/format.h>

#include <algorithm>

#include "model/fold.h"
#include "sim/federation.h"
#include "sim/tiny_model.h"

namespace strata::sim {
namespace {

constexpr const char* kPlan = "{}";
constexpr int kStaleTimes = 2;  // until its owner gives it the right plan

Sha256 hash_of(std::string_view text) { return sha256(bytes_of(text)); }

std::shared_ptr<const coordinator::Outline> outline_of(std::size_t rank) {
  auto out = std::make_shared<coordinator::Outline>();
  for (const auto& layer : layers())
    out->emplace(layer.name, protocol::TensorOutline{layer.d_out, layer.d_in, {rank}});
  return out;
}

// Worth starting again: the disk may be better then.
bool passes(const Error& why) {
  return why.code == ErrorCode::kIo || why.code == ErrorCode::kDiskFull;
}

}  // namespace

// What leaves the process from here on is noised, charged for, and on the disk.
Result<void> Federation::CoordinatorProcess::closed(const coordinator::RoundReport& report,
                                                    const coordinator::Coordinator&, double) {
  if (!federation.s_.hides_clients) return {};
  const auto& told = federation.accounts_.rounds[report.round].told;
  if (told != sha256(report.aggregate.bytes()))
    federation.violated(fmt::format("round {} is shown before it is kept", report.round));
  for (const auto& [name, pair] : report.aggregate.mean_factors) {
    const auto shown = pair.b.values();
    if (std::any_of(shown.begin(), shown.end(), [&](float v) { return v < 0.9F * kNoiseStep; }))
      federation.violated(fmt::format("round {} is shown without noise", report.round));
  }
  return {};
}

Result<void> Federation::CoordinatorProcess::committed(const coordinator::RoundCommitted& r) {
  federation.note(fmt::format("committed {} {}", r.round, hex(r.chain)));
  for (const auto& before : federation.seen_.committed) {
    if (before.round == r.round)
      federation.violated(fmt::format("round {} committed twice", r.round));
  }
  federation.seen_.committed.push_back(r);
  return {};
}

Result<void> Federation::CoordinatorProcess::resumed(const protocol::RoundChange&,
                                                     const coordinator::RoundCommitted& r,
                                                     const coordinator::Coordinator&) {
  auto& seen = federation.seen_.committed;
  const auto known = std::find_if(seen.begin(), seen.end(),
                                  [&](const auto& before) { return before.round == r.round; });
  // Committed and not told before the crash is committed all the same.
  if (known == seen.end()) {
    seen.push_back(r);
  } else if (known->chain != r.chain) {
    federation.violated(fmt::format("round {} was changed", r.round));
  }
  return {};
}

void Federation::CoordinatorProcess::accepted(const coordinator::UpdateAccepted& u) {
  federation.note(fmt::format("accepted {} {} {}", u.round, u.client, hex(u.update).substr(0, 8)));
}

void Federation::CoordinatorProcess::left_out(const coordinator::ClientOut& o) {
  federation.note(fmt::format("left out {} {} {}", o.round, o.client, o.reason));
}

void Federation::CoordinatorProcess::noticed(const std::string& what) {
  federation.note(what);
  federation.seen_.noticed.push_back(what);
}

void Federation::CoordinatorProcess::done(const Result<void>& how) {
  federation.note(how ? "coordinator done" : "coordinator: " + how.error().line());
  if (how) {
    federation.finished_[kCoordinator] = true;
    federation.seen_.final_model =
        std::make_unique<model::Model>(std::move(server->core()).finish());
    federation.seen_.final_state = server->machine().state();
  } else if (how.error().code == ErrorCode::kDamaged || how.error().code == ErrorCode::kConfig ||
             how.error().code == ErrorCode::kInternal) {
    federation.violated("the coordinator says " + how.error().line());
  }
  federation.doomed_[kCoordinator] = [f = &federation] { f->stop(kCoordinator); };
}

void Federation::ClientProcess::acknowledged(const protocol::Ack& a) {
  federation.note(fmt::format("{} ack {} {}", name(), a.round, static_cast<int>(a.outcome)));
  federation.seen_.acks.emplace_back(name(), a);
}

void Federation::ClientProcess::followed(const protocol::Head& head, std::uint64_t) {
  federation.seen_.models.emplace_back(name(), head);
}

void Federation::ClientProcess::done(const Result<protocol::Finished>& how) {
  federation.note(name() + (how ? " done" : ": " + how.error().line()));
  if (how) {
    federation.finished_[index] = true;
  } else if (!federation.may_give_up(index, how.error())) {
    federation.violated(name() + " gives up: " + how.error().line());
  }
  federation.doomed_[index] = [f = &federation, i = index] { f->stop(i); };
}

Owner* Federation::owner_of(std::size_t process) {
  const auto found = owners_.find(process);
  return found == owners_.end() ? nullptr : found->second.get();
}

bool Federation::is_stale(std::size_t process) const {
  return name_of(process) == s_.stale && verdict_.stale_refusals < kStaleTimes;
}

bool Federation::may_give_up(std::size_t process, const Error& why) {
  if (passes(why)) return true;
  if (why.code == ErrorCode::kConfig && is_stale(process)) {
    ++verdict_.stale_refusals;
    return true;
  }
  Owner* owner = owner_of(process);
  if (owner == nullptr) return false;
  // The owner of a ledger that was put back is told, and puts the newest one there.
  const bool restored = owner->rolled_back() && owner->restore();
  if (why.code == ErrorCode::kDamaged && restored) ++verdict_.found_put_back;
  return why.code == ErrorCode::kBudget || (why.code == ErrorCode::kDamaged && restored);
}

std::string Federation::name_of(std::size_t process) const {
  return process == kCoordinator ? "coordinator" : names_[process - 1];
}

bool Federation::alive(std::size_t process) const {
  return process == kCoordinator ? coordinator_ != nullptr : clients_.contains(process);
}

std::unique_ptr<ProcessExecutor> Federation::executor_for(std::size_t process) {
  const auto guard = [this, process](const auto& task) {
    try {
      task();
    } catch (const Crash& c) {
      doomed_[process] = [this, process, machine = c.machine] { crash(process, machine); };
    }
  };
  return std::make_unique<ProcessExecutor>(time_, guard, &machines_.at(process)->clock);
}

void Federation::cannot_start(std::size_t process, const Error& why) {
  // Files of a ledger have names that nobody's seed gives.
  note(fmt::format("{} cannot start: {}", name_of(process), why.what));
  if (!passes(why)) violated(name_of(process) + " cannot start: " + why.line());
  machines_.at(process)->disk.unlock();
  restart_later(process);
}

coordinator::ServerConfig Federation::server_config() const {
  coordinator::ServerConfig config{.machine = {.clients = names_,
                                               .rounds = s_.rounds,
                                               .quorum = s_.hides_clients ? 0
                                                         : s_.quorum != 0 ? s_.quorum
                                                                          : 1,
                                               .per_round = s_.per_round,
                                               .seed = s_.seed},
                                   .folder = "/run/state",
                                   .plan = hash_of(kPlan),
                                   .plan_of = [](const auto&) { return std::string(kPlan); },
                                   .deadline_seconds = s_.deadline};
  config.run[0] = std::byte(s_.seed | 1);
  if (s_.piece > 0) config.inline_bytes = 0, config.chunk_bytes = s_.piece;
  for (std::size_t i = 0; i < names_.size(); ++i)
    config.expected[names_[i]] = outline_of(rank_of(i, s_.method));
  return config;
}

coordinator::Coordinator Federation::core() {
  auto core = coordinator::Coordinator::make(
      {.method = s_.method, .restart = s_.restart, .rounds = s_.rounds, .measure = false},
      tiny_model(s_.seed));
  if (!core) throw std::runtime_error(core.error().line());
  if (s_.hides_clients)
    core->make_private(std::make_shared<SimulatedSum>(accounts_), zero_start(layers(), 4));
  return std::move(*core);
}

void Federation::start_coordinator() {
  note("coordinator starts");
  Machine& machine = *machines_.at(kCoordinator);
  auto process = std::make_unique<CoordinatorProcess>(*this);
  process->executor = executor_for(kCoordinator);
  try {
    auto server = coordinator::Server::open(
        server_config(), core(),
        {*process->executor, machine.clock, machine.disk, *process, &ledgers_});
    if (!server) {
      cannot_start(kCoordinator, server.error());
      return;
    }
    process->server = std::move(*server);
  } catch (const Crash& c) {
    process.reset();
    crash(kCoordinator, c.machine);
    return;
  }
  check_files(machine.disk, "/run/state/", complain());
  process->listener = network_.listener(*process->executor);
  if (!process->listener->listen(*process->server)) throw std::logic_error("cannot listen");
  coordinator_ = std::move(process);
  coordinator_->server->start();
}

Result<void> Federation::open_client(std::size_t process, ClientProcess& client) {
  Machine& machine = *machines_.at(process);
  auto outbox = client::Outbox::open(machine.disk, "/client/state", sys::Durability::kMachine);
  if (!outbox) return fail(std::move(outbox).error());
  client.outbox = std::move(*outbox);
  Owner* owner = owner_of(process);
  if (owner == nullptr) return {};
  auto budget = owner->open();
  if (!budget) return fail(std::move(budget).error());
  client.budget = std::move(*budget);
  return {};
}

client::SessionConfig Federation::session_config(std::size_t process) const {
  const bool stale = is_stale(process);
  const std::string mine = stale ? "{\"older\":1}" : kPlan;
  client::SessionConfig config{
      .id = name_of(process), .program = "simulated", .plan = hash_of(mine), .seed = s_.seed};
  if (!stale || !s_.stale_blindly) {
    config.check_plan = [mine](const std::string& theirs) -> Result<void> {
      if (theirs == mine) return {};
      return fail({.code = ErrorCode::kConfig, .what = "the coordinator has another plan"});
    };
  }
  config.discreet = s_.private_clients;
  if (s_.piece > 0) config.inline_bytes = 0, config.chunk_bytes = s_.piece;
  return config;
}

void Federation::start_client(std::size_t i) {
  const protocol::ClientId& name = names_[i - 1];
  note(name + " starts");
  Machine& machine = *machines_.at(i);
  auto process = std::make_unique<ClientProcess>(*this, i);
  process->executor = executor_for(i);
  process->base = client::own_base(tiny_model(s_.seed), machine.disk, 1);
  process->dialer = network_.dialer(*process->executor, name);
  try {
    if (auto opened = open_client(i, *process); !opened) {
      cannot_start(i, opened.error());
      return;
    }
  } catch (const Crash& c) {
    process.reset();
    crash(i, c.machine);
    return;
  }
  check_files(machine.disk, "/client/", complain());
  const bool spoils = s_.spoilt.contains(name);
  process->worker = std::make_unique<Worker>(
      *process->executor,
      Worker::Setup{.client = name,
                    .rank = rank_of(i - 1, s_.method),
                    .layers = layers(),
                    .seed = s_.seed,
                    .spoilt = spoils ? s_.spoilt.at(name) : std::map<std::uint32_t, Spoilt>{},
                    .made = &seen_.made,
                    .budget = process->budget.get(),
                    .noise = process->budget ? &noise_ : nullptr,
                    .others = s_.equivocates == name ? &seen_.others : nullptr});
  process->session = std::make_unique<client::Session>(
      session_config(i),
      client::SessionTools{*process->executor, machine.disk, *process->dialer, *process->base,
                           *process->outbox, *process->worker, *process});
  auto* session = process->session.get();
  clients_[i] = std::move(process);
  clients_[i]->executor->post([session] { session->start(); });
}

// The process is no more; nothing it does from here on reaches anybody.
void Federation::crash(std::size_t process, bool machine) {
  ++verdict_.crashes;
  note(fmt::format("process {} {}", process, machine ? "falls with its machine" : "is killed"));
  Disk& disk = machines_.at(process)->disk;
  disk.before_change = nullptr;
  network_.break_all(name_of(process));
  stop(process);
  if (machine) disk.fall();
  if (Owner* owner = owner_of(process)) owner->check();
}

void Federation::stop(std::size_t process) {
  network_.break_all(name_of(process));
  if (process == kCoordinator) {
    coordinator_.reset();
  } else {
    clients_.erase(process);
  }
  machines_.at(process)->disk.unlock();
  machines_.at(process)->clock.stop_waiting();
  if (Owner* owner = owner_of(process)) owner->check();
  if (!finished_[process]) restart_later(process);
}

void Federation::restart_later(std::size_t process) {
  time_.at(time_.seconds() + draw_.uniform(0.1, 8.0), [this, process] {
    if (process == kCoordinator) {
      if (!coordinator_) start_coordinator();
    } else if (!clients_.contains(process)) {
      start_client(process);
    }
  });
}

}  // namespace strata::sim

#include "sim/world.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "model/fold.h"
#include "sim/accounts.h"
#include "sim/tiny_model.h"

namespace strata::sim {
namespace {

using protocol::ClientId;

std::size_t rank_of(std::size_t client, const std::string& method) {
  return method == "fedavg" ? 2 : 1 + client % 4;
}

std::shared_ptr<const coordinator::Outline> outline_of(std::size_t rank) {
  auto out = std::make_shared<coordinator::Outline>();
  for (const auto& layer : layers())
    out->emplace(layer.name, protocol::TensorOutline{layer.d_out, layer.d_in, {rank}});
  return out;
}

class World {
 public:
  explicit World(const Scenario& s)
      : s_(s),
        time_(s.seed),
        draw_(sys::Stream(s.seed).at({.purpose = "faults"})),
        network_(time_, sys::Stream(s.seed).at({.purpose = "network"})) {
    network_.faults = s.network;
    for (std::size_t i = 0; i < s.clients; ++i) names_.push_back(fmt::format("c{}", i));
  }
  Verdict run();

 private:
  struct CoordinatorProcess;
  struct ClientProcess;

  void note(const std::string& what) {
    // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing sets it
    if (std::getenv("STRATA_SIM_LOG") != nullptr)
      fmt::print(stderr, "{:10.3f} {}\n", time_.seconds(), what);
    log_.add(fmt::format("{:.9f} {}\n", time_.seconds(), what));
  }
  void violated(const std::string& what) {
    if (verdict_.violations.size() < 5)
      verdict_.violations.push_back(fmt::format("{:.3f}: {}", time_.seconds(), what));
  }
  bool faulty() const { return time_.seconds() < s_.faults_end; }
  void start_coordinator();
  void start_client(std::size_t i);
  void crash(std::size_t process, bool machine);
  void stop(std::size_t process);
  void restart_later(std::size_t process);
  std::unique_ptr<ProcessExecutor> executor_for(std::size_t process);
  std::unique_ptr<Disk>& disk_of(std::size_t process) { return disks_.at(process); }
  void plan_faults();
  void every(double seconds, const std::function<void()>& task);
  void check_all();
  void check_journal(const std::vector<coordinator::RoundRecord>& records);
  void check_model(const std::vector<coordinator::RoundRecord>& records);
  void check_accounts();

  static constexpr std::size_t kCoordinator = 0;  // clients follow
  Scenario s_;
  Timeline time_;
  sys::Stream draw_;
  Network network_;
  std::vector<ClientId> names_;
  std::map<std::size_t, std::unique_ptr<Disk>> disks_;
  std::unique_ptr<CoordinatorProcess> coordinator_;
  std::map<std::size_t, std::unique_ptr<ClientProcess>> clients_;
  std::map<std::size_t, bool> finished_;
  std::map<Sha256, protocol::Update> made_;
  std::vector<coordinator::RoundCommitted> committed_;  // as announced, over all its lives
  std::vector<std::pair<ClientId, protocol::Ack>> acks_;
  std::map<std::size_t, std::function<void()>> doomed_;  // what is torn down after this task
  Accounts accounts_;                                    // of a coordinator that hides clients
  std::unique_ptr<model::Model> final_;
  Sha256 final_state_{};
  Hasher log_;
  Verdict verdict_;
};

struct World::CoordinatorProcess final : coordinator::ServerObserver {
  explicit CoordinatorProcess(World& w) : world(w) {}
  World& world;
  std::unique_ptr<ProcessExecutor> executor;
  std::unique_ptr<coordinator::Server> server;
  std::unique_ptr<transport::Listener> listener;

  // What leaves the process from here on is noised, charged for, and on the disk.
  Result<void> closed(const coordinator::RoundReport& report, const coordinator::Coordinator&,
                      double) override {
    if (!world.s_.hides_clients) return {};
    const auto& told = world.accounts_.rounds[report.round].told;
    if (told != sha256(report.aggregate.bytes()))
      world.violated(fmt::format("round {} is shown before it is kept", report.round));
    for (const auto& [name, pair] : report.aggregate.mean_factors) {
      const auto shown = pair.b.values();
      if (std::any_of(shown.begin(), shown.end(), [&](float v) { return v < 0.9F * kNoiseStep; }))
        world.violated(fmt::format("round {} is shown without noise", report.round));
    }
    return {};
  }
  Result<void> committed(const coordinator::RoundCommitted& r) override {
    world.note(fmt::format("committed {} {}", r.round, hex(r.chain)));
    for (const auto& before : world.committed_) {
      if (before.round == r.round) world.violated(fmt::format("round {} committed twice", r.round));
    }
    world.committed_.push_back(r);
    return {};
  }
  Result<void> resumed(const protocol::RoundChange&, const coordinator::RoundCommitted& r,
                       const coordinator::Coordinator&) override {
    const auto known = std::find_if(world.committed_.begin(), world.committed_.end(),
                                    [&](const auto& before) { return before.round == r.round; });
    // Committed and not told before the crash is committed all the same.
    if (known == world.committed_.end()) {
      world.committed_.push_back(r);
    } else if (known->chain != r.chain) {
      world.violated(fmt::format("round {} was changed", r.round));
    }
    return {};
  }
  void accepted(const coordinator::UpdateAccepted& u) override {
    world.note(fmt::format("accepted {} {} {}", u.round, u.client, hex(u.update).substr(0, 8)));
  }
  void left_out(const coordinator::ClientOut& o) override {
    world.note(fmt::format("left out {} {} {}", o.round, o.client, o.reason));
  }
  void noticed(const std::string& what) override { world.note(what); }
  void done(const Result<void>& how) override {
    world.note(how ? "coordinator done" : "coordinator: " + how.error().line());
    if (how) {
      world.finished_[kCoordinator] = true;
      world.final_ = std::make_unique<model::Model>(std::move(server->core()).finish());
      world.final_state_ = server->machine().state();
    } else if (how.error().code == ErrorCode::kDamaged || how.error().code == ErrorCode::kConfig ||
               how.error().code == ErrorCode::kInternal) {
      world.violated("the coordinator says " + how.error().line());
    }
    world.doomed_[kCoordinator] = [this] { world.stop(kCoordinator); };
  }
};

struct World::ClientProcess final : client::SessionObserver {
  ClientProcess(World& w, std::size_t i) : world(w), index(i) {}
  World& world;
  std::size_t index;  // of the process
  std::unique_ptr<ProcessExecutor> executor;
  std::unique_ptr<transport::Dialer> dialer;
  std::unique_ptr<client::BaseModel> base;
  std::optional<client::Outbox> outbox;
  std::unique_ptr<Worker> worker;
  std::unique_ptr<client::Session> session;

  const ClientId& name() const { return world.names_[index - 1]; }
  void acknowledged(const protocol::Ack& a) override {
    world.note(fmt::format("{} ack {} {}", name(), a.round, static_cast<int>(a.outcome)));
    world.acks_.emplace_back(name(), a);
  }
  void done(const Result<protocol::Finished>& how) override {
    world.note(name() + (how ? " done" : ": " + how.error().line()));
    if (how) {
      world.finished_[index] = true;
    } else if (how.error().code != ErrorCode::kIo && how.error().code != ErrorCode::kDiskFull) {
      world.violated(name() + " gives up: " + how.error().line());
    }
    world.doomed_[index] = [this] { world.stop(index); };
  }
};

std::unique_ptr<ProcessExecutor> World::executor_for(std::size_t process) {
  return std::make_unique<ProcessExecutor>(time_, [this, process](const auto& task) {
    try {
      task();
    } catch (const Crash& c) {
      doomed_[process] = [this, process, machine = c.machine] { crash(process, machine); };
    }
  });
}

void World::start_coordinator() {
  note("coordinator starts");
  auto process = std::make_unique<CoordinatorProcess>(*this);
  process->executor = executor_for(kCoordinator);
  coordinator::ServerConfig config{.machine = {.clients = names_,
                                               .rounds = s_.rounds,
                                               .quorum = s_.hides_clients ? 0
                                                         : s_.quorum != 0 ? s_.quorum
                                                                          : 1,
                                               .per_round = s_.per_round,
                                               .seed = s_.seed},
                                   .folder = "/run/state",
                                   .plan_of = [](const ClientId&) { return std::string("{}"); },
                                   .deadline_seconds = s_.deadline};
  config.run[0] = std::byte(s_.seed | 1);
  if (s_.piece > 0) config.inline_bytes = 0, config.chunk_bytes = s_.piece;
  for (std::size_t i = 0; i < names_.size(); ++i)
    config.expected[names_[i]] = outline_of(rank_of(i, s_.method));
  try {
    auto core = coordinator::Coordinator::make(
        {.method = s_.method, .restart = s_.restart, .rounds = s_.rounds, .measure = false},
        tiny_model(s_.seed));
    if (!core) throw std::runtime_error(core.error().line());
    if (s_.hides_clients)
      core->make_private(std::make_shared<SimulatedSum>(accounts_), zero_start(layers(), 4));
    auto server =
        coordinator::Server::open(std::move(config), std::move(*core),
                                  {*process->executor, time_, *disk_of(kCoordinator), *process});
    if (!server) {
      note("coordinator cannot start: " + server.error().line());
      if (server.error().code != ErrorCode::kIo && server.error().code != ErrorCode::kDiskFull)
        violated("the coordinator cannot start: " + server.error().line());
      disk_of(kCoordinator)->unlock();
      restart_later(kCoordinator);
      return;
    }
    process->server = std::move(*server);
  } catch (const Crash& c) {
    process.reset();
    crash(kCoordinator, c.machine);
    return;
  }
  process->listener = network_.listener(*process->executor);
  if (!process->listener->listen(*process->server)) throw std::logic_error("cannot listen");
  coordinator_ = std::move(process);
  coordinator_->server->start();
}

void World::start_client(std::size_t i) {
  const ClientId& name = names_[i - 1];
  note(name + " starts");
  auto process = std::make_unique<ClientProcess>(*this, i);
  process->executor = executor_for(i);
  process->base = client::own_base(tiny_model(s_.seed), *disk_of(i), 1);
  process->dialer = network_.dialer(*process->executor, name);
  try {
    auto outbox = client::Outbox::open(*disk_of(i), "/client/state", sys::Durability::kMachine);
    if (!outbox) {
      note(name + " cannot start: " + outbox.error().line());
      if (outbox.error().code != ErrorCode::kIo && outbox.error().code != ErrorCode::kDiskFull)
        violated(name + " cannot start: " + outbox.error().line());
      disk_of(i)->unlock();
      restart_later(i);
      return;
    }
    process->outbox = std::move(*outbox);
  } catch (const Crash& c) {
    process.reset();
    crash(i, c.machine);
    return;
  }
  process->worker = std::make_unique<Worker>(
      *process->executor,
      Worker::Setup{.client = name,
                    .rank = rank_of(i - 1, s_.method),
                    .layers = layers(),
                    .seed = s_.seed,
                    .spoilt = s_.spoilt.contains(name) ? s_.spoilt.at(name)
                                                       : std::map<std::uint32_t, Spoilt>{},
                    .made = &made_});
  client::SessionConfig config{.id = name, .program = "simulated", .seed = s_.seed};
  if (s_.piece > 0) config.inline_bytes = 0, config.chunk_bytes = s_.piece;
  process->session = std::make_unique<client::Session>(
      std::move(config),
      client::SessionTools{*process->executor, *disk_of(i), *process->dialer, *process->base,
                           *process->outbox, *process->worker, *process});
  auto* session = process->session.get();
  clients_[i] = std::move(process);
  clients_[i]->executor->post([session] { session->start(); });
}

// The process is no more; nothing it does from here on reaches anybody.
void World::crash(std::size_t process, bool machine) {
  ++verdict_.crashes;
  note(fmt::format("process {} {}", process, machine ? "falls with its machine" : "is killed"));
  disk_of(process)->before_change = nullptr;
  network_.break_all(process == kCoordinator ? "coordinator" : names_[process - 1]);
  stop(process);
  if (machine) disk_of(process)->fall();
}

void World::stop(std::size_t process) {
  network_.break_all(process == kCoordinator ? "coordinator" : names_[process - 1]);
  if (process == kCoordinator) {
    coordinator_.reset();
  } else {
    clients_.erase(process);
  }
  disk_of(process)->unlock();
  if (!finished_[process]) restart_later(process);
}

void World::restart_later(std::size_t process) {
  time_.at(time_.seconds() + draw_.uniform(0.1, 8.0), [this, process] {
    if (process == kCoordinator) {
      if (!coordinator_) start_coordinator();
    } else if (!clients_.contains(process)) {
      start_client(process);
    }
  });
}

void World::every(double seconds, const std::function<void()>& task) {
  if (seconds <= 0.0) return;
  const double next = time_.seconds() + draw_.uniform(0.2, 1.8) * seconds;
  if (next > s_.faults_end) return;
  time_.at(next, [this, seconds, task] {
    task();
    every(seconds, task);
  });
}

void World::plan_faults() {
  const auto process = [this] { return draw_.below(names_.size() + 1); };
  const auto alive = [this](std::size_t p) {
    return p == kCoordinator ? coordinator_ != nullptr : clients_.contains(p);
  };
  every(s_.crash_every, [=, this] {
    const std::size_t p = process();
    if (alive(p)) crash(p, draw_.uniform() < s_.machine_share);
  });
  every(s_.full_every, [=, this] {
    Disk* disk = disk_of(process()).get();
    disk->full = true;
    time_.at(time_.seconds() + draw_.uniform(1.0, 15.0), [disk] { disk->full = false; });
  });
  every(s_.broken_every, [=, this] {
    Disk* disk = disk_of(process()).get();
    disk->broken = true;
    time_.at(time_.seconds() + draw_.uniform(0.5, 4.0), [disk] { disk->broken = false; });
  });
  every(s_.cut_every, [=, this] {
    const std::string name = names_[draw_.below(names_.size())];
    const auto cut = s_.cut_all ? std::set<std::string>(names_.begin(), names_.end())
                                : std::set<std::string>{name};
    network_.cut = cut;
    time_.at(time_.seconds() + draw_.uniform(1.0, 60.0), [this] { network_.cut.clear(); });
  });
  every(s_.rot_every, [=, this] {
    if (!coordinator_ || coordinator_->server->machine().phase() != coordinator::Phase::kOpen)
      return;
    if (!disk_of(kCoordinator)->rot("/run/state/updates/open")) return;
    ++verdict_.rotten;
    crash(kCoordinator, false);
  });
  time_.at(s_.faults_end, [this] {
    network_.cut.clear();
    network_.faults.break_chance = 0.0;
    for (auto& [p, disk] : disks_) {
      disk->full = disk->broken = false;
      disk->flush_fails = 0.0;
      disk->before_change = nullptr;
    }
  });
}

Verdict World::run() {
  for (std::size_t p = 0; p <= names_.size(); ++p) {
    disks_[p] = std::make_unique<Disk>(sys::Stream(s_.seed).at({.purpose = "disk", .item = p}));
    disks_[p]->lies = s_.lying_disk;
    disks_[p]->flush_fails = s_.flush_fails;
    if (s_.crash_at_call > 0.0) {
      // Re-armed by nobody: each process ends so at most once in a while, see crash().
      auto arm = std::make_shared<std::function<void()>>();
      *arm = [this, p] {
        disks_[p]->before_change = [this](const std::string& what) {
          if (!faulty() || draw_.uniform() >= s_.crash_at_call) return;
          note("ends at " + what);
          throw Crash{draw_.uniform() < s_.machine_share};
        };
      };
      (*arm)();
      every(10.0, [arm] { (*arm)(); });
    }
  }
  plan_faults();
  time_.at(0.0, [this] { start_coordinator(); });
  for (std::size_t i = 1; i <= names_.size(); ++i)
    time_.at(draw_.uniform(0.0, 2.0), [this, i] { start_client(i); });
  const double latest = s_.faults_end + 300.0 + (s_.deadline + 200.0) * s_.rounds;
  const auto all_finished = [this] {
    return finished_[kCoordinator] &&
           std::all_of(clients_.begin(), clients_.end(), [](const auto& c) { return !c.second; });
  };
  // Clients that were away at the end find nobody: the coordinator's end is the run's.
  while (!all_finished() && time_.seconds() < latest && verdict_.violations.empty()) {
    if (finished_[kCoordinator]) break;
    if (!time_.step()) break;
    while (!doomed_.empty()) doomed_.extract(doomed_.begin()).mapped()();
  }
  verdict_.finished = finished_[kCoordinator];
  verdict_.time = time_.seconds();
  verdict_.frames = network_.frames();
  if (!verdict_.finished && verdict_.violations.empty())
    violated(fmt::format("no end after {:.0f} s", latest));
  if (verdict_.violations.empty()) check_all();
  clients_.clear();
  coordinator_.reset();
  verdict_.log = log_.finish();
  return verdict_;
}

void World::check_all() {
  auto raw = journal::Journal::read(*disk_of(kCoordinator), "/run/state/journal/000001.log",
                                    coordinator::kRoundJournal);
  if (!raw) {
    violated("the journal cannot be read: " + raw.error().line());
    return;
  }
  std::vector<coordinator::RoundRecord> records;
  for (const auto& record : *raw) {
    auto r = coordinator::round_record(record);
    if (!r) {
      violated(r.error().line());
      return;
    }
    records.push_back(std::move(*r));
  }
  check_journal(records);
  check_model(records);
  if (s_.hides_clients) check_accounts();
  for (const auto& path : disk_of(kCoordinator)->all_files()) {
    if (!path.starts_with("/run/state/")) violated("a file outside the run: " + path);
    if (path.starts_with("/run/state/updates/")) violated("left over: " + path);
  }
}

// Promises kept: who was told "accepted" was used, once; rounds had their quorum and follow.
void World::check_journal(const std::vector<coordinator::RoundRecord>& records) {
  std::map<std::uint32_t, std::map<ClientId, Sha256>> accepted;
  std::map<std::uint32_t, std::vector<ClientId>> contributors;
  std::vector<coordinator::RoundCommitted> committed;
  std::set<std::pair<std::uint32_t, ClientId>> lost_places;  // by a damaged disk
  for (const auto& record : records) {
    if (const auto* u = std::get_if<coordinator::UpdateAccepted>(&record)) {
      if (!accepted[u->round].emplace(u->client, u->update).second)
        violated(fmt::format("{} twice in round {}", u->client, u->round));
    } else if (const auto* lost = std::get_if<coordinator::UpdateLost>(&record)) {
      accepted[lost->round].erase(lost->client);
      lost_places.emplace(lost->round, lost->client);
    } else if (const auto* c = std::get_if<coordinator::RoundClosed>(&record)) {
      contributors[c->round] = c->contributors;
      if (!s_.hides_clients && c->contributors.size() < std::max(1u, s_.quorum))
        violated(fmt::format("round {} without its quorum", c->round));
    } else if (const auto* r = std::get_if<coordinator::RoundCommitted>(&record)) {
      committed.push_back(*r);
    }
  }
  if (committed.size() != s_.rounds) violated("not every round is committed");
  for (const auto& told : committed_) {
    if (told.round > committed.size() || committed[told.round - 1].chain != told.chain)
      violated(fmt::format("round {} is not the one that was announced", told.round));
  }
  for (const auto& [client, ack] : acks_) {
    if (ack.outcome != protocol::Outcome::kAccepted && ack.outcome != protocol::Outcome::kDuplicate)
      continue;
    if (lost_places.contains({ack.round, client})) continue;
    const auto& used = contributors[ack.round];
    if (std::find(used.begin(), used.end(), client) == used.end() ||
        accepted[ack.round][client] != ack.update)
      violated(fmt::format("{} was promised a place in round {}", client, ack.round));
  }
}

// The final model is the base plus the weighted sum of exactly the listed updates, by a slow
// computation of its own (flora only; averages of factors have no such sum).
void World::check_model(const std::vector<coordinator::RoundRecord>& records) {
  verdict_.chain = committed_.empty() ? Sha256{} : committed_.back().chain;
  if (!final_ || final_->state_hash() != final_state_) {
    violated("the journal names another final model");
    return;
  }
  if (s_.method != "flora") return;
  const model::Model base = tiny_model(s_.seed);
  std::map<std::string, std::vector<double>> sum;
  for (const auto& layer : layers()) sum[layer.name].resize(layer.d_out * layer.d_in);
  std::map<std::uint32_t, std::map<ClientId, Sha256>> accepted;
  for (const auto& record : records) {
    if (const auto* u = std::get_if<coordinator::UpdateAccepted>(&record))
      accepted[u->round][u->client] = u->update;
    const auto* closed = std::get_if<coordinator::RoundClosed>(&record);
    if (closed == nullptr) continue;
    double total = 0.0;
    for (const auto& c : closed->contributors) {
      const auto made = made_.find(accepted[closed->round][c]);
      if (made == made_.end()) {
        violated("an update was used that nobody made for use");
        return;
      }
      total += made->second.weight;
    }
    for (const auto& c : closed->contributors) {
      const auto& update = made_.at(accepted[closed->round][c]);
      for (const auto& [name, delta] : update.delta)
        adapter::add_dense(delta, update.weight / total, sum[name]);
    }
  }
  for (const auto& layer : layers()) {
    const auto& before = base.parameters()[base.find(layer.name)];
    const auto& after = final_->parameters()[final_->find(layer.name)];
    std::vector<float> w0(before.size()), w1(after.size());
    before.copy_values(w0);
    after.copy_values(w1);
    for (std::size_t i = 0; i < w0.size(); ++i) {
      const double expected = static_cast<double>(w0[i]) + sum[layer.name][i];
      if (std::abs(expected - static_cast<double>(w1[i])) > 1e-6) {
        violated(fmt::format("{} value {} is {}, not {}", layer.name, i, w1[i], expected));
        return;
      }
    }
  }
}

// One result a round was told, the committed one, and each draw of noise was paid for.
void World::check_accounts() {
  for (const auto& violation : accounts_.violations) violated(violation);
  for (const auto& round : committed_) {
    const auto& own = accounts_.rounds[round.round];
    if (own.told != round.result) violated(fmt::format("round {}: not what was kept", round.round));
    if (own.draws > own.charges)
      violated(
          fmt::format("round {}: {} draws for {} charges", round.round, own.draws, own.charges));
    verdict_.draws += own.draws;
    verdict_.charges += own.charges;
  }
  verdict_.taken_up = accounts_.taken_up;
}

}  // namespace

Verdict run(const Scenario& scenario) { return World(scenario).run(); }

}  // namespace strata::sim

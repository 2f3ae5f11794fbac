#include "client/peers.h"

#include <fmt/format.h>

#include <algorithm>

#include "protocol/problem.h"

namespace strata::client {
namespace {

std::string of_client(const protocol::ClientId& client) { return "client " + client; }

}  // namespace

// The updates of this member's clients, for whoever asks.
class Peers::Shelf final : public transport::Handler {
 public:
  explicit Shelf(Peers& peers) : peers_(peers) {}

  struct Client {
    RoundWorker* worker = nullptr;  // that trains
    const Outbox* outbox = nullptr;
  };
  std::map<protocol::ClientId, Client> clients;

  void answer_all(const protocol::ClientId& id, std::uint32_t round) {
    // Whoever is answered may be gone afterwards.
    std::vector<transport::Connection*> waiting;
    for (const auto& [connection, guest] : guests_) {
      if (guest.client == id && guest.asked && guest.asked->round == round)
        waiting.push_back(connection);
    }
    for (auto* connection : waiting) {
      if (const auto at = guests_.find(connection); at != guests_.end()) answer(at->second);
    }
  }
  // What this member has merged lies here now.
  void answer_parts() {
    std::vector<transport::Connection*> waiting;
    for (const auto& [connection, guest] : guests_) {
      if (guest.part_asked) waiting.push_back(connection);
    }
    for (auto* connection : waiting) {
      if (const auto at = guests_.find(connection); at != guests_.end()) answer_part(at->second);
    }
  }
  void on_open(const std::shared_ptr<transport::Connection>& connection) override {
    const auto& peer = connection->peer();
    if (!clients.contains(peer.id)) {
      connection->send(protocol::to_frame(
          protocol::problem_of({.code = ErrorCode::kConfig,
                                .what = of_client(peer.id) + " is not of this member",
                                .rule = "all members are started with the same job"}),
          {}));
      connection->close();
      return;
    }
    connection->trust();
    guests_[connection.get()] = {.connection = connection, .client = peer.id};
  }

  void on_frame(transport::Connection& connection, wire::Frame frame) override {
    const auto at = guests_.find(&connection);
    if (at == guests_.end()) return;
    auto message = protocol::from_frame(std::move(frame));
    if (!message) return refuse(at->second, message.error());
    const auto* hello = std::get_if<protocol::Hello>(&*message);
    if (at->second.member.empty() != (hello != nullptr)) {
      refuse(at->second, protocol::breach(fmt::format("{} came", protocol::name(*message)),
                                          "HELLO comes first, and once"));
    } else if (hello != nullptr) {
      welcome(at->second, *hello);
    } else if (const auto* open = std::get_if<protocol::RoundOpen>(&*message)) {
      at->second.asked = *open;
      answer(at->second);
    } else if (const auto* part = std::get_if<protocol::CatchUp>(&*message)) {
      at->second.part_asked = part->head.round;
      answer_part(at->second);
    } else if (const auto* fetch = std::get_if<protocol::Fetch>(&*message)) {
      serve(at->second, *fetch);
    } else if (const auto* finished = std::get_if<protocol::Finished>(&*message)) {
      peers_.finished_[at->second.member] = *finished;
      peers_.look_whether_done();
    } else {
      refuse(at->second, protocol::breach(fmt::format("{} came", protocol::name(*message)),
                                          "a member sends no such message"));
    }
  }

  void on_end(transport::Connection& connection, const Error&) override {
    guests_.erase(&connection);
  }

  void refuse_all(const Error& why) {
    while (!guests_.empty()) {
      const Guest guest = guests_.begin()->second;
      refuse(guest, why);
    }
  }

 private:
  struct Guest {
    std::shared_ptr<transport::Connection> connection;
    protocol::ClientId client;
    std::string member = {};                                  // once it has said so
    std::optional<protocol::RoundOpen> asked = std::nullopt;  // and not answered yet
    std::optional<std::uint32_t> part_asked = std::nullopt;   // a round, not answered yet
    // What it may fetch: of an outbox, or, where it gets a part of an update, these bytes.
    struct Shown {
      Sha256 hash{};
      std::uint64_t size = 0;
      std::uint32_t round = 0;
      const Outbox* outbox = nullptr;
      Bytes bytes = {};
    };
    std::optional<Shown> shown = std::nullopt;
  };

  void welcome(Guest& guest, const protocol::Hello& hello) {
    const auto& others = peers_.config_.others;
    if (std::find(others.begin(), others.end(), hello.program) != others.end())
      guest.member = hello.program;
    if (!guest.member.empty() && peers_.gave_up_) return refuse(guest, *peers_.gave_up_);
    if (!guest.member.empty() && hello.plan == peers_.config_.plan) return;
    refuse(guest, {.code = ErrorCode::kConfig,
                   .what = "runs another job than " + peers_.config_.name +
                           ", or begins with another base model",
                   .where = printable(hello.program, 80),
                   .rule = "all members are started with the same job and the same model"});
  }

  void refuse(const Guest& guest, const Error& why) {
    guest.connection->send(protocol::to_frame(protocol::problem_of(why), {}));
    guest.connection->close();
    if (!guest.member.empty()) peers_.knows(guest.member);
    guests_.erase(guest.connection.get());
  }

  // With the update, if it lies here already.
  void answer(Guest& guest) {
    const auto& client = clients.at(guest.client);
    const auto send = [&](const protocol::Message& m) {
      guest.connection->send(protocol::to_frame(m, {}));
    };
    const std::uint32_t round = guest.asked->round;
    const auto* kept = client.outbox->kept(round);
    const auto& last = client.outbox->last();
    if (kept == nullptr && last && last->round > round) {
      return refuse(
          guest, {.code = ErrorCode::kDamaged,
                  .what = fmt::format("asks for round {}; the last here is {}", round, last->round),
                  .where = of_client(guest.client),
                  .rule = "members go in step, from folders that belong together",
                  .remedy = "begin anew with --force"});
    }
    if (kept == nullptr) return;  // later
    const OutboxEntry entry = *kept;
    const Sha256 base = guest.asked->base;
    guest.asked.reset();
    if (entry.base != base) {
      return refuse(guest, {.code = ErrorCode::kInternal,
                            .what = fmt::format("round {} began here with another model", round),
                            .where = of_client(guest.client),
                            .rule = "all members merge the same updates into the same bits",
                            .remedy = "use one build on all nodes, and begin anew with --force"});
    }
    if (auto released = client.worker->release(entry.run, round, entry.update); !released)
      return refuse(guest, released.error());
    auto shown = shown_to(guest.member, entry, *client.outbox);
    if (!shown) return refuse(guest, shown.error());
    send(protocol::Offer{.round = round,
                         .base = entry.base,
                         .update = {.hash = shown->hash, .size = shown->size, .data = {}},
                         .training = entry.training,
                         .ledger = {}});
    guest.shown = std::move(*shown);
  }

  [[nodiscard]] Result<Guest::Shown> shown_to(const std::string& member, const OutboxEntry& entry,
                                              const Outbox& outbox) const {
    Guest::Shown out{
        .hash = entry.update, .size = entry.update_bytes, .round = entry.round, .outbox = &outbox};
    if (!peers_.part_of_) return out;
    auto whole = outbox.read_kept(entry.round, 0, entry.update_bytes);
    if (!whole) return fail(std::move(whole).error());
    auto part = peers_.part_of_(member, whole->bytes);
    if (!part) return fail(std::move(part).error());
    out.hash = sha256(*part);
    out.size = part->size();
    out.bytes = std::move(*part);
    return out;
  }

  // With what this member has merged of a round, if it has.
  void answer_part(Guest& guest) {
    const std::uint32_t round = *guest.part_asked;
    const auto& parts = peers_.parts_;
    const auto* kept = parts ? parts->kept(round) : nullptr;
    const bool gone = parts && parts->last() && parts->last()->round > round;
    if (kept == nullptr && (gone || !parts)) {
      return refuse(guest, {.code = ErrorCode::kDamaged,
                            .what = fmt::format("asks for what was merged in round {}", round),
                            .where = printable(guest.member, 80),
                            .rule = "members go in step, by the same exchange",
                            .remedy = "begin anew with --force"});
    }
    if (kept == nullptr) return;  // later
    guest.part_asked.reset();
    guest.shown = Guest::Shown{
        .hash = kept->update, .size = kept->update_bytes, .round = round, .outbox = &*parts};
    guest.connection->send(protocol::to_frame(
        protocol::RoundDone{
            .head = {.round = round, .chain = {}},
            .result = {.hash = kept->update, .size = kept->update_bytes, .data = {}}},
        {}));
  }

  void serve(const Guest& guest, const protocol::Fetch& m) {
    const auto& shown = guest.shown;
    if (!shown || shown->hash != m.object || m.offset >= shown->size ||
        m.length > wire::kChunkBytes) {
      return refuse(guest, protocol::breach("an object that is not there was asked for",
                                            "it is what was offered last"));
    }
    const std::uint64_t length = std::min(m.length, shown->size - m.offset);
    auto part =
        shown->bytes.empty()
            ? shown->outbox->read_kept(shown->round, m.offset, length)
            : OutboxPart{.file = {}, .bytes = ByteSpan(shown->bytes).subspan(m.offset, length)};
    if (!part) return refuse(guest, part.error());
    guest.connection->send(protocol::chunk_frame(m.object, m.offset, part->bytes, {}));
  }

  Peers& peers_;
  std::map<transport::Connection*, Guest> guests_;
};

// A client of this member.
class Peers::Shared final : public RoundWorker {
 public:
  Shared(Peers& peers, protocol::ClientId id, std::unique_ptr<RoundWorker> worker)
      : peers_(peers), id_(std::move(id)), worker_(std::move(worker)) {}
  ~Shared() override {
    *alive_ = false;
    peers_.shelf_->clients.erase(id_);
  }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;

  void train(const RoundStart& start, std::function<void(Result<RoundDone>)> done) override {
    worker_->train(start, [this, then = std::move(done), alive = alive_](Result<RoundDone> result) {
      if (!*alive) return;
      // The round machine does not hear of it: the round is trained again by the next start.
      if (!result && result.error().code != ErrorCode::kInterrupted)
        return peers_.lose(std::move(result).error());
      then(std::move(result));
    });
  }
  void abort() override { worker_->abort(); }
  Result<void> release(const protocol::RunId& run, std::uint32_t round,
                       const Sha256& update) override {
    auto released = worker_->release(run, round, update);
    if (released) peers_.shelf_->answer_all(id_, round);
    return released;
  }
  Result<protocol::LedgerMark> mark() override { return worker_->mark(); }
  Result<void> check_remembered(const protocol::LedgerMark& seen) override {
    return worker_->check_remembered(seen);
  }
  Result<void> restore(ByteSpan state) override { return worker_->restore(state); }

 private:
  Peers& peers_;
  protocol::ClientId id_;
  std::unique_ptr<RoundWorker> worker_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

// A client of another member.
class Peers::Remote final : public RoundWorker, public transport::Handler {
 public:
  Remote(Peers& peers, protocol::ClientId id)
      : peers_(peers),
        id_(std::move(id)),
        member_(peers.config_.member_of(id_)),
        dialer_(peers.config_.dial(id_)) {
    peers_.remotes_.insert(this);
  }
  ~Remote() override {
    *alive_ = false;
    peers_.executor_.cancel(timer_);
    peers_.remotes_.erase(this);
    if (connection_) connection_->close();
  }
  Remote(const Remote&) = delete;
  Remote& operator=(const Remote&) = delete;

  void train(const RoundStart& start, std::function<void(Result<RoundDone>)> done) override {
    wanted_ = Wanted{start, std::move(done)};
    ask();
  }
  void abort() override {
    if (wanted_) end({.code = ErrorCode::kInterrupted, .what = "the round is over"});
  }
  Result<void> restore(ByteSpan) override { return {}; }

  [[nodiscard]] const std::string& member() const { return member_; }
  /// Gets what the member has merged of a round.
  void ask_for_part(std::uint32_t round) {
    part_wanted_ = round;
    ask();
  }

  /// Says that this member needs nothing more.
  void finish() {
    if (connection_) {
      connection_->send(protocol::to_frame(*peers_.last_, {}));
    } else {
      dial();
    }
  }
  void on_open(const std::shared_ptr<transport::Connection>& connection) override {
    connection_ = connection;
    connection_->trust();
    dialing_ = false;
    failing_ = 0.0;
    peers_.executor_.cancel(timer_);
    connection_->send(protocol::to_frame(
        protocol::Hello{.program = peers_.config_.name, .plan = peers_.config_.plan}, {}));
    if (peers_.last_) return finish();
    ask();
  }
  void on_frame(transport::Connection& connection, wire::Frame frame) override {
    if (connection_.get() != &connection) return;
    auto message = protocol::from_frame(std::move(frame));
    if (!message) return peers_.lose(message.error());
    if (auto* problem = std::get_if<protocol::Problem>(&*message))
      return hear(*problem, connection.peer().address);
    if (auto* offer = std::get_if<protocol::Offer>(&*message)) return take(*offer);
    if (auto* part = std::get_if<protocol::RoundDone>(&*message)) return take(*part);
    if (auto* chunk = std::get_if<protocol::Chunk>(&*message)) return take(*chunk);
    peers_.lose(protocol::breach(fmt::format("{} came", protocol::name(*message)),
                                 "a member sends no such message"));
  }
  void on_end(transport::Connection& connection, const Error& why) override {
    if (connection_.get() != &connection) return;
    connection_.reset();
    download_.reset();
    try_again(why);
  }

 private:
  struct Wanted {
    RoundStart start;
    std::function<void(Result<RoundDone>)> done;
  };
  struct Download {
    Sha256 hash{};
    std::uint64_t size = 0;
    std::function<void(Bytes)> then;
    Bytes bytes = {};
    std::uint64_t asked = 0;
  };

  void ask() {
    if (!wanted_ && !part_wanted_) return;
    if (!connection_) return dial();
    if (part_wanted_) {
      connection_->send(
          protocol::to_frame(protocol::CatchUp{.head = {.round = *part_wanted_, .chain = {}}}, {}));
    }
    if (!wanted_) return;
    connection_->send(protocol::to_frame(protocol::RoundOpen{.round = wanted_->start.round,
                                                             .rounds = wanted_->start.rounds,
                                                             .base = wanted_->start.base},
                                         {}));
  }
  void dial() {
    if (std::exchange(dialing_, true)) return;
    dialer_->dial(*this, [this, alive = alive_](const Error& why) {
      if (*alive) try_again(why);
    });
  }
  void hear(const protocol::Problem& problem, const std::string& address) {
    peers_.knows(member_);
    peers_.end(protocol::error_of(problem, address));
  }
  void try_again(const Error& why) {
    dialing_ = false;
    if (peers_.gave_up_) return peers_.knows(member_);
    if (peers_.last_ && peers_.finished_.contains(member_)) return;
    failing_ += peers_.config_.pause;
    if (failing_ > peers_.config_.patience)
      return peers_.last_ ? peers_.gone(member_) : peers_.lose(why);
    peers_.executor_.cancel(timer_);
    timer_ = peers_.executor_.after(peers_.config_.pause, [this] { dial(); });
  }

  void take(const protocol::Offer& m) {
    if (!wanted_ || wanted_->start.round != m.round || download_) return;
    begin(m.update, [this, training = m.training](Bytes bytes) {
      if (!wanted_) return;
      const auto done = std::exchange(wanted_, std::nullopt)->done;
      done(RoundDone{.update = std::move(bytes), .state = {}, .training = training});
    });
  }
  void take(const protocol::RoundDone& m) {
    if (part_wanted_ != m.head.round || download_) return;
    begin(m.result, [this, round = m.head.round](Bytes bytes) {
      part_wanted_.reset();
      peers_.take_part(member_, round, std::move(bytes));
    });
  }
  void take(const protocol::Chunk& m) {
    if (!download_ || m.object != download_->hash) return;
    auto& bytes = download_->bytes;
    if (m.offset != bytes.size() || m.data.size() > download_->size - bytes.size())
      return peers_.lose(protocol::breach("a piece of an update came out of its place",
                                          "pieces come in the order they were asked for"));
    bytes.insert(bytes.end(), m.data.begin(), m.data.end());
    if (bytes.size() < download_->size) return ask_for_more();
    if (sha256(bytes) != download_->hash)
      return peers_.lose(protocol::breach("an update came with another hash than announced",
                                          "the member's folder is whole"));
    auto whole = std::exchange(download_, std::nullopt);
    whole->then(std::move(whole->bytes));
  }
  void begin(const protocol::Object& object, std::function<void(Bytes)> then) {
    download_ = Download{.hash = object.hash, .size = object.size, .then = std::move(then)};
    ask_for_more();
  }
  void ask_for_more() {
    auto& d = *download_;
    while (d.asked < d.size && d.asked - d.bytes.size() < protocol::kAheadBytes) {
      const std::uint64_t length = std::min(wire::kChunkBytes, d.size - d.asked);
      connection_->send(protocol::to_frame(protocol::Fetch{d.hash, d.asked, length}, {}));
      d.asked += length;
    }
  }
  void end(Error why) {
    download_.reset();
    const auto done = std::exchange(wanted_, std::nullopt)->done;
    peers_.executor_.post([done, why = std::move(why)] { done(fail(why)); });
  }

  Peers& peers_;
  protocol::ClientId id_;
  std::string member_;
  std::unique_ptr<transport::Dialer> dialer_;
  std::shared_ptr<transport::Connection> connection_;
  std::optional<Wanted> wanted_;
  std::optional<std::uint32_t> part_wanted_;  // a round
  std::optional<Download> download_;
  bool dialing_ = false;
  double failing_ = 0.0;  // seconds without a connection
  sys::TimerId timer_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

Peers::Peers(sys::Executor& executor, std::unique_ptr<transport::Listener> listener,
             PeersConfig config)
    : executor_(executor),
      config_(std::move(config)),
      shelf_(std::make_unique<Shelf>(*this)),
      listener_(std::move(listener)) {}

Peers::~Peers() {
  *alive_ = false;
  executor_.cancel(until_all_know_);
}

std::unique_ptr<RoundWorker> Peers::share(const protocol::ClientId& client,
                                          std::unique_ptr<RoundWorker> worker,
                                          const Outbox& outbox) {
  shelf_->clients[client] = {.worker = worker.get(), .outbox = &outbox};
  return std::make_unique<Shared>(*this, client, std::move(worker));
}

std::unique_ptr<RoundWorker> Peers::remote(const protocol::ClientId& client) {
  return std::make_unique<Remote>(*this, client);
}

Result<const std::map<std::string, Bytes>*> Peers::exchange(std::uint32_t round,
                                                            const std::function<Bytes()>& own,
                                                            std::function<void()> again) {
  if (exchanged_ != round) {
    // A process before this one may have kept the same bytes.
    if (!parts_->last() || parts_->last()->round != round) {
      OutboxEntry entry;
      entry.round = round;
      if (auto kept = parts_->put(std::move(entry), own()); !kept)
        return fail(std::move(kept).error());
    }
    exchanged_ = round;
    merged_.clear();
    shelf_->answer_parts();
    std::set<std::string> asked;
    for (auto* remote : remotes_) {
      if (asked.insert(remote->member()).second) remote->ask_for_part(round);
    }
  }
  again_ = std::move(again);
  const bool all = merged_.size() == config_.others.size();
  return all ? &merged_ : nullptr;
}

void Peers::take_part(const std::string& member, std::uint32_t round, Bytes bytes) {
  if (round != exchanged_) return;
  merged_[member] = std::move(bytes);
  if (merged_.size() == config_.others.size() && again_) std::exchange(again_, nullptr)();
}

void Peers::merge_parts(PartOf part_of, Outbox kept) {
  part_of_ = std::move(part_of);
  parts_ = std::move(kept);
}

Result<void> Peers::start() { return listener_->listen(*shelf_); }

void Peers::lose(Error why) {
  if (why.remedy.empty()) why.remedy = "the same command goes on after the last finished round";
  end(std::move(why));
}

void Peers::end(Error why) {
  if (std::exchange(lost_, true) || !lost) return;
  executor_.post([this, why = std::move(why), alive = alive_] {
    if (*alive) lost(why);
  });
}

void Peers::finish(const protocol::Finished& last, std::function<void(Result<void>)> done) {
  last_ = last;
  done_ = std::move(done);
  for (auto* remote : remotes_) remote->finish();
  look_whether_done();
}

void Peers::give_up(const Error& why, std::function<void()> done) {
  gave_up_ = why;
  all_know_ = std::move(done);
  const auto end_waiting = [this] {
    if (const auto call = std::exchange(all_know_, nullptr)) call();
  };
  if (all_know_) until_all_know_ = executor_.after(config_.patience, end_waiting);
  shelf_->refuse_all(why);
  knows(config_.name);
}

void Peers::knows(const std::string& member) {
  know_.insert(member);
  if (!gave_up_ || !all_know_) return;
  const bool all = std::all_of(config_.others.begin(), config_.others.end(),
                               [this](const auto& other) { return know_.contains(other); });
  if (all) executor_.post(std::exchange(all_know_, nullptr));
}

void Peers::gone(const std::string& member) {
  gone_.insert(member);
  look_whether_done();
}

void Peers::look_whether_done() {
  if (!last_ || !done_) return;
  Result<void> how;
  for (const auto& [member, theirs] : finished_) {
    if (theirs.state == last_->state) continue;
    how =
        fail({.code = ErrorCode::kInternal,
              .what = fmt::format("ended with model {}, this member with {}",
                                  hex(theirs.state).substr(0, 12), hex(last_->state).substr(0, 12)),
              .where = member,
              .rule = "all members merge the same updates into the same bits",
              .remedy = "use one build on all nodes, and begin anew with --force"});
  }
  const bool all = std::all_of(
      config_.others.begin(), config_.others.end(),
      [this](const auto& member) { return finished_.contains(member) || gone_.contains(member); });
  if (how && !all) return;
  executor_.post([done = std::exchange(done_, nullptr), how = std::move(how)] { done(how); });
}

}  // namespace strata::client

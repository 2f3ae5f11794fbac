// What clients say, and what they are told.
#include <fmt/format.h>

#include <algorithm>

#include "coordinator/server.h"
#include "model/fold.h"
#include "protocol/problem.h"

namespace strata::coordinator {
namespace {

using protocol::Outcome;

constexpr std::size_t kHistoryRounds = 1024;  // in one message; who needs more asks again

std::string short_hex(const Sha256& hash) { return hex(hash).substr(0, 12); }

}  // namespace

void Server::on_open(const std::shared_ptr<transport::Connection>& connection) {
  if (ended_) {
    connection->close();
    return;
  }
  sessions_.emplace(connection.get(), Session{.connection = connection, .number = ++opened_});
}

void Server::on_end(transport::Connection& connection, const Error& why) {
  const auto found = sessions_.find(&connection);
  if (found == sessions_.end()) return;
  const protocol::ClientId client = found->second.client;
  drop(connection);
  if (!client.empty() && !ended_) tools_.observer.left(client, why);
}

void Server::drop(transport::Connection& connection) {
  const auto found = sessions_.find(&connection);
  if (found == sessions_.end()) return;
  const auto named = by_client_.find(found->second.client);
  if (named != by_client_.end() && named->second == &connection) by_client_.erase(named);
  const auto held = found->second.connection;  // until the end of this call
  if (found->second.upload) partial_[found->second.client] = std::move(found->second.upload);
  sessions_.erase(found);
  held->close();
  if (machine_.phase() == Phase::kDone) advance_soon();
}

Server::Session* Server::session_of(const protocol::ClientId& client) {
  const auto found = by_client_.find(client);
  if (found == by_client_.end()) return nullptr;
  const auto session = sessions_.find(found->second);
  return session == sessions_.end() ? nullptr : &session->second;
}

void Server::send(Session& session, const protocol::Message& message) {
  session.connection->send(protocol::to_frame(message, machine_.run()));
}

void Server::refuse(Session& session, const Error& why, bool retry) {
  send(session, protocol::problem_of(why, retry));
  const protocol::ClientId who =
      session.client.empty() ? session.connection->peer().id : session.client;
  drop(*session.connection);
  tools_.observer.left(who, why);
}

void Server::on_frame(transport::Connection& connection, wire::Frame frame) {
  const auto found = sessions_.find(&connection);
  if (found == sessions_.end() || ended_) return;
  Session& session = found->second;
  const protocol::RunId run = frame.header.run;
  auto message = protocol::from_frame(std::move(frame));
  if (!message) {
    refuse(session, std::move(message).error());
    return;
  }
  const bool greeting = std::holds_alternative<protocol::Hello>(*message);
  if (greeting != session.client.empty()) {
    refuse(session, protocol::breach(fmt::format("{} came", protocol::name(*message)),
                                     greeting ? "HELLO comes once" : "HELLO comes first"));
    return;
  }
  if (!greeting && run != machine_.run()) {
    refuse(session, protocol::breach(fmt::format("{} is of another run", protocol::name(*message)),
                                     "frames name the run that WELCOME named"));
    return;
  }
  std::visit([&](auto& m) { handle(session, m); }, *message);
}

template <class Other>
void Server::handle(Session& session, const Other& m) {
  refuse(session, protocol::breach(fmt::format("{} came", protocol::name(protocol::Message(m))),
                                   "a client sends no such message"));
}

void Server::handle(Session& session, const protocol::Problem& m) {
  const Error why = protocol::error_of(m, "the client");
  const protocol::ClientId client = session.client;
  drop(*session.connection);
  if (!m.retry) tools_.observer.noticed(client + " gave up: " + why.line());
  tools_.observer.left(client, why);
}

void Server::handle(Session& session, const protocol::Hello& m) {
  const std::string& id = session.connection->peer().id;
  if (machine_.phase() == Phase::kNotBegun) {
    refuse(session, {.code = ErrorCode::kPeer, .what = "the run has not begun yet"}, true);
    return;
  }
  const auto& clients = machine_.config().clients;
  if (protocol::kVersion < m.min_version || protocol::kVersion > m.max_version) {
    refuse(session, {.code = ErrorCode::kProtocol,
                     .what = fmt::format("{} speaks protocol {} to {}", printable(m.program, 60),
                                         m.min_version, m.max_version),
                     .rule = fmt::format("this coordinator speaks {}", protocol::kVersion),
                     .remedy = "run versions that go together"});
    return;
  }
  if (!std::binary_search(clients.begin(), clients.end(), id)) {
    refuse(session, {.code = ErrorCode::kAuth,
                     .what = printable(id, 80) + " is not a client of this run",
                     .rule = "the job's `clients` name who takes part"});
    return;
  }
  if (m.run != protocol::RunId{} && m.run != machine_.run()) {
    refuse(session, {.code = ErrorCode::kConfig,
                     .what = "the client has work of another run",
                     .rule = "a client's state folder serves one run",
                     .remedy = "give it another --state folder, or remove the old one"});
    return;
  }
  if (auto other = other_model(m.head)) {
    refuse(session, *other);
    return;
  }
  session.client = id;
  session.plan = m.plan;
  session.ledger = m.ledger;
  welcome(session);
}

std::optional<Error> Server::other_model(const protocol::Head& head) const {
  const auto& done = machine_.committed();
  const Sha256* chain = head.round == 0             ? &machine_.opened().base
                        : head.round <= done.size() ? &done[head.round - 1].chain
                                                    : nullptr;
  if (chain != nullptr && *chain == head.chain) return std::nullopt;
  return Error{.code = ErrorCode::kConfig,
               .what = fmt::format("the client's model is {} after round {}", short_hex(head.chain),
                                   head.round),
               .rule = chain == nullptr ? "the coordinator is not that far"
                                        : "the coordinator's was " + short_hex(*chain),
               .remedy = "use the same base model on both sides"};
}

void Server::remember(const Session& session, const protocol::LedgerMark& ledger) {
  if (tools_.ledgers == nullptr || ledger.records == 0) return;
  if (tools_.ledgers->knows_another(session.client, ledger.ledger)) {
    tools_.observer.noticed(session.client +
                            " comes with a ledger that was not seen before: its owner began "
                            "another one, or lost the one there was");
  }
  if (auto kept = tools_.ledgers->keep(session.client, ledger); !kept)
    tools_.observer.noticed(session.client + "'s ledger: " + kept.error().line());
}

void Server::welcome(Session& session) {
  // Two live connections of one client: the one that was opened last is the true one, in whatever
  // order they greet.
  if (Session* other = session_of(session.client)) {
    const protocol::ClientId client = session.client;
    const bool stale = other->number > session.number;
    Session& older = stale ? session : *other;
    send(older, protocol::problem_of({.code = ErrorCode::kLocked,
                                      .what = "another connection of this client took over"}));
    drop(*older.connection);
    tools_.observer.noticed(client + " has connected again; its older connection is closed");
    if (stale) return;
  }
  by_client_[session.client] = session.connection.get();
  session.connection->trust();
  send(session, protocol::Welcome{
                    .run = machine_.run(),
                    .client = session.client,
                    .plan = config_.plan_of(session.client),
                    .head = machine_.head(),
                    .last_round = machine_.last_of(session.client).round,
                    .remembered = tools_.ledgers == nullptr
                                      ? protocol::LedgerMark{}
                                      : tools_.ledgers->of(session.client, session.ledger.ledger)});
}

void Server::handle(Session& session, const protocol::Ready& m) {
  if (auto other = other_model(m.head)) {
    refuse(session, *other);
    return;
  }
  if (session.ready) return;
  // It had the plan to compare, which says more than that the two differ.
  if (session.plan != Sha256{} && session.plan != config_.plan) {
    refuse(session, {.code = ErrorCode::kConfig,
                     .what = "the client holds plan " + short_hex(session.plan),
                     .rule = "this run's is " + short_hex(config_.plan),
                     .remedy = "use the same job on both sides"});
    return;
  }
  session.ready = true;
  met_anybody_ = true;
  remember(session, session.ledger);
  tools_.observer.joined(session.client, session.connection->peer());
  arm_deadline();
  tell_round(session);
}

// What a client has to do now, if anything.
void Server::tell_round(Session& session) {
  if (!session.ready) return;
  if (machine_.phase() == Phase::kDone) {
    send(session, protocol::Finished{.head = machine_.head(), .state = machine_.state()});
    return;
  }
  if (machine_.phase() != Phase::kOpen) return;
  if (waiting_of(session.client) != nullptr ||
      machine_.judge(session.client, machine_.round(), {}) != Verdict::kNew)
    return;
  double left = 0.0;
  if (config_.deadline_seconds > 0.0) {
    left = deadline_ != 0 ? std::max(0.001, deadline_at_ - tools_.clock.seconds())
                          : config_.deadline_seconds;
  }
  const auto last = machine_.last_of(session.client);
  send(session, protocol::RoundOpen{.round = machine_.round(),
                                    .rounds = machine_.config().rounds,
                                    .base = machine_.head().chain,
                                    .restart = core_.restart(),
                                    .used_before = last.used && last.round + 1 == machine_.round(),
                                    .deadline_seconds = left});
}

void Server::acknowledge(Session& session, const protocol::Offer& offer, Outcome outcome,
                         std::string reason) {
  send(session, protocol::Ack{.round = offer.round,
                              .base = offer.base,
                              .update = offer.update.hash,
                              .outcome = outcome,
                              .reason = std::move(reason)});
}

void Server::reject(Session& session, const protocol::Offer& offer, const std::string& reason) {
  const protocol::ClientId client = session.client;
  acknowledge(session, offer, Outcome::kRejected, reason);
  session.upload.reset();
  leave_out(client, reason, /*rejected=*/true);
}

const Server::Waiting* Server::waiting_of(const protocol::ClientId& client) const {
  const auto found = std::find_if(waiting_.begin(), waiting_.end(),
                                  [&](const Waiting& w) { return w.record.client == client; });
  return found == waiting_.end() ? nullptr : &*found;
}

// Two different updates of one client for one round: the first one counts.
void Server::refuse_conflict(Session& session, const protocol::Offer& offer, const Sha256& first) {
  const std::string reason =
      fmt::format("update {} came first for round {}; {} is another", short_hex(first), offer.round,
                  short_hex(offer.update.hash));
  tools_.observer.noticed(session.client + ": " + reason);
  acknowledge(session, offer, Outcome::kRejected, reason);
}

void Server::handle(Session& session, protocol::Offer& m) {
  if (m.ledger.ledger != session.ledger.ledger) {
    refuse(session, protocol::breach("OFFER is of another ledger than HELLO",
                                     "a conversation has one ledger"));
    return;
  }
  remember(session, m.ledger);  // whatever becomes of it: its bytes may have come
  if (const Waiting* first = waiting_of(session.client);
      first != nullptr && m.round == machine_.round()) {
    // For the same update the answer comes with the flush that is on its way.
    if (first->record.update != m.update.hash) refuse_conflict(session, m, first->record.update);
    return;
  }
  switch (machine_.judge(session.client, m.round, m.update.hash)) {
    case Verdict::kNew:
      begin_upload(session, m);
      return;
    case Verdict::kDuplicate:
      acknowledge(session, m, Outcome::kDuplicate);
      return;
    case Verdict::kLate:
      acknowledge(session, m, Outcome::kLate,
                  fmt::format("round {} is closed; round {} is next", m.round, machine_.round()));
      return;
    case Verdict::kConflict:
      refuse_conflict(session, m, machine_.accepted().at(session.client).update);
      return;
    case Verdict::kOut:
      acknowledge(session, m, Outcome::kRejected, "this client was left out of the round");
      return;
    case Verdict::kNotSelected:
      acknowledge(session, m, Outcome::kRejected, "this client was not drawn for the round");
      return;
    case Verdict::kUnknown:
      refuse(session, protocol::breach(fmt::format("an update for round {} came", m.round),
                                       fmt::format("round {} is the latest", machine_.round())));
      return;
  }
}

void Server::begin_upload(Session& session, protocol::Offer& offer) {
  const auto planned = config_.expected.find(session.client);
  check(planned != config_.expected.end(), "every client's updates are planned");
  const std::uint64_t most =
      protocol::bytes_max(*planned->second, protocol::encoding_of(config_.encoding));
  if (offer.update.size == 0 || offer.update.size > most) {
    reject(session, offer,
           fmt::format("an update of {} bytes is announced; what the plan says takes {} at most",
                       offer.update.size, most));
    return;
  }
  // One region a client and round, however often it begins anew: nobody fills the disk with uploads
  // that never end.
  auto region = regions_.find(session.client);
  if (region == regions_.end()) {
    auto reserved = updates_->reserve(most);
    if (!reserved) {
      acknowledge(session, offer, Outcome::kRetryLater, reserved.error().line());
      if (reserved.error().code != ErrorCode::kDiskFull) end(fail(std::move(reserved).error()));
      return;
    }
    region = regions_.emplace(session.client, *reserved).first;
  }
  const Bytes data = std::move(offer.update.data);
  offer.update.data.clear();
  auto partial = partial_.extract(session.client);
  const bool same = partial && partial.mapped()->offer.update.hash == offer.update.hash &&
                    partial.mapped()->offer.update.size == offer.update.size;
  if (same && data.empty()) {
    session.upload = std::move(partial.mapped());
    session.upload->asked = session.upload->received;
  } else {
    session.upload = std::make_unique<Upload>();
    session.upload->region = region->second;
  }
  session.upload->offer = offer;
  if (!data.empty()) {
    session.upload->asked = data.size();
    take_bytes(session, data);
  } else {
    ask_for_more(session);
  }
}

void Server::give_up_uploads() {
  regions_.clear();
  partial_.clear();
  each_session([this](Session& session) {
    if (!session.upload) return;
    const auto upload = std::move(session.upload);
    acknowledge(session, upload->offer, Outcome::kLate, "the round was closed meanwhile");
  });
}

void Server::ask_for_more(Session& session) {
  Upload& up = *session.upload;
  while (up.asked < up.offer.update.size &&
         up.asked - up.received < protocol::kAheadChunks * config_.chunk_bytes) {
    const std::uint64_t length = std::min(config_.chunk_bytes, up.offer.update.size - up.asked);
    send(session, protocol::Fetch{up.offer.update.hash, up.asked, length});
    up.asked += length;
  }
}

void Server::handle(Session& session, const protocol::Chunk& m) {
  if (!session.upload || m.object != session.upload->offer.update.hash) return;  // of an old offer
  Upload& up = *session.upload;
  const std::uint64_t left = up.asked - up.received;
  if (m.offset != up.received || m.data.empty() || m.data.size() > left) {
    refuse(session,
           protocol::breach(fmt::format("a chunk of {} bytes at {} came", m.data.size(), m.offset),
                            fmt::format("{} bytes at {} were asked for", left, up.received)));
    return;
  }
  take_bytes(session, m.data);
}

void Server::take_bytes(Session& session, ByteSpan bytes) {
  Upload& up = *session.upload;
  if (auto written = updates_->write(up.region + up.received, bytes); !written) {
    acknowledge(session, up.offer, Outcome::kRetryLater, written.error().line());
    session.upload.reset();
    if (written.error().code != ErrorCode::kDiskFull) end(fail(std::move(written).error()));
    return;
  }
  up.hasher.add(bytes);
  up.received += bytes.size();
  if (up.received < up.offer.update.size) {
    ask_for_more(session);
  } else {
    finish_upload(session, bytes.size() == up.offer.update.size ? bytes : ByteSpan());
  }
}

Result<void> Server::check_uploaded(const Session& session, ByteSpan whole, SharedUpdate& update) {
  const Upload& up = *session.upload;
  auto opened =
      updates_->open(session.client, up.region, up.offer.update.size, config_.encoding, whole);
  if (!opened) return fail(std::move(opened).error());
  const auto& header = updates_->last_header();
  const Outline& outline = (*opened)->outline();
  if (auto fits = core_.check(session.client, header.round, header.base, outline); !fits)
    return fits;
  if (auto fits = check_planned(session.client, outline, *config_.expected.at(session.client));
      !fits)
    return fits;
  if (auto fits = core_.check_norm(**opened); !fits) return fits;
  update = std::move(*opened);
  return {};
}

void Server::finish_upload(Session& session, ByteSpan whole) {
  Upload& up = *session.upload;
  if (up.hasher.finish() != up.offer.update.hash) {
    reject(session, up.offer, "the update's bytes are not those that its hash names");
    return;
  }
  // Another connection of this client, or the end of the round, may have been faster.
  if (machine_.judge(session.client, up.offer.round, up.offer.update.hash) != Verdict::kNew) {
    const protocol::Offer again = up.offer;
    session.upload.reset();
    acknowledge(session, again, Outcome::kLate, "the round was closed meanwhile");
    return;
  }
  SharedUpdate update;
  if (auto good = check_uploaded(session, whole, update); !good) {
    if (good.error().code == ErrorCode::kIo) {
      end(fail(std::move(good).error()));
    } else {
      const protocol::Offer offer = up.offer;
      reject(session, offer, good.error().line());
    }
    return;
  }
  waiting_.push_back({.record = {.round = up.offer.round,
                                 .client = session.client,
                                 .update = up.offer.update.hash,
                                 .offset = up.region,
                                 .size = up.offer.update.size,
                                 .training = up.offer.training},
                      .update = std::move(update)});
  session.upload.reset();
  flush_soon();
}

void Server::handle(Session& session, const protocol::Failed& m) {
  if (m.round != machine_.round() || machine_.phase() != Phase::kOpen) return;  // too late to count
  if (const Sha256& base = machine_.head().chain; m.base != base) {
    refuse(session, protocol::breach(
                        fmt::format("FAILED speaks of round {} on {}", m.round, short_hex(m.base)),
                        "the round is trained on " + short_hex(base)));
    return;
  }
  if (waiting_of(session.client) == nullptr)
    leave_out(session.client, m.reason, /*rejected=*/false);
}

Result<protocol::Object> Server::object_of(const RoundCommitted& round) const {
  protocol::Object out{.hash = round.result, .size = round.size, .data = {}};
  if (round.size > config_.inline_bytes) return out;
  auto file = tools_.disk.map(result_path(round.round));
  if (!file) return fail(std::move(file).error());
  const auto bytes = (*file)->bytes();
  out.data.assign(bytes.begin(), bytes.end());
  return out;
}

// Bytes of what the rounds behind `round` came to.
std::uint64_t Server::bytes_since(std::uint32_t round) const {
  const auto& done = machine_.committed();
  std::uint64_t out = 0;
  for (std::size_t i = round; i < done.size(); ++i) out += done[i].size;
  return out;
}

// The changed tensors as they were after some round, kept as long as the rounds since then are
// fewer bytes than a new one: clients that fetch it are not overtaken by every round.
Result<void> Server::refresh_snapshot() {
  const auto round = static_cast<std::uint32_t>(machine_.committed().size());
  if (snapshot_round_ != 0 && bytes_since(snapshot_round_) <= snapshot_.size) return {};
  const auto path = config_.folder / fmt::format("snapshot-{:04}", round);
  if (auto written = model::write_changed(tools_.disk, path, core_.model()); !written)
    return written;
  auto file = tools_.disk.map(path);
  if (!file) return fail(std::move(file).error());
  const auto bytes = (*file)->bytes();
  // Whoever is in the middle of fetching the older one is told so and asks again.
  if (const auto older = objects_.find(snapshot_.hash);
      snapshot_round_ != 0 && older != objects_.end()) {
    (void)tools_.disk.remove_all(older->second.path);
    objects_.erase(older);
  }
  snapshot_ = {.hash = sha256(bytes), .size = bytes.size(), .data = {}};
  snapshot_round_ = round;
  objects_[snapshot_.hash] = {path, bytes.size()};
  return {};
}

Result<protocol::History> Server::history_from(const protocol::Head& head) {
  const auto& done = machine_.committed();
  const bool over = machine_.phase() == Phase::kDone;
  // Averaged factors replace each other: with a snapshot goes the result of its own round.
  const std::size_t behind = core_.mean_factors().empty() ? 0 : 1;
  std::uint64_t whole = model::changed_bytes(core_.model());
  if (behind > 0) whole += done.back().size;
  std::size_t first = head.round;
  protocol::History out;
  if (whole < bytes_since(head.round) && !over && !core_.needs_all_packets()) {
    if (auto ready = refresh_snapshot(); !ready) return fail(std::move(ready).error());
    if (snapshot_round_ > head.round) {
      first = snapshot_round_ - behind;
      out.snapshot = snapshot_;
      out.snapshot_head = first == 0 ? protocol::Head{0, machine_.opened().base}
                                     : protocol::Head{done[first - 1].round, done[first - 1].chain};
    }
  }
  const std::size_t end = std::min(done.size(), first + kHistoryRounds);
  for (std::size_t i = first; i < end; ++i) {
    out.rounds.push_back({.head = {done[i].round, done[i].chain},
                          .result = {.hash = done[i].result, .size = done[i].size, .data = {}}});
  }
  // After the end FINISHED names the state, averaged factors included.
  if (!over && end == done.size()) out.state = core_.state_hash();
  return out;
}

void Server::handle(Session& session, const protocol::CatchUp& m) {
  if (m.head.round > machine_.committed().size()) {
    refuse(session,
           protocol::breach(fmt::format("a client at round {} wants to catch up", m.head.round),
                            fmt::format("{} rounds are committed", machine_.committed().size())));
    return;
  }
  if (auto other = other_model(m.head)) {
    refuse(session, *other);
    return;
  }
  if (folded_) {  // the model is ahead of the journal, as long as the disk is full
    refuse(session, {.code = ErrorCode::kDiskFull, .what = "a round cannot be committed now"},
           true);
    return;
  }
  auto history = history_from(m.head);
  if (!history) {
    refuse(session, std::move(history).error(), true);
    return;
  }
  send(session, *history);
}

void Server::handle(Session& session, const protocol::Fetch& m) {
  const auto found = objects_.find(m.object);
  if (found == objects_.end() || m.offset >= found->second.size) {
    refuse(session,
           protocol::breach("an object that is not there was asked for: " + short_hex(m.object),
                            "objects are those of announced rounds and snapshots"),
           true);
    return;
  }
  const auto& [path, size] = found->second;
  auto file = tools_.disk.map(path);
  if (!file) {
    end(fail(std::move(file).error()));
    return;
  }
  const auto bytes = (*file)->bytes();
  if (bytes.size() != size) {
    end(fail({.code = ErrorCode::kDamaged,
              .what = fmt::format("is {} bytes long", bytes.size()),
              .where = path.string(),
              .rule = fmt::format("{} were written", size)}));
    return;
  }
  const auto part = bytes.subspan(m.offset, std::min(m.length, size - m.offset));
  session.connection->send(protocol::chunk_frame(m.object, m.offset, part, machine_.run()));
}

}  // namespace strata::coordinator

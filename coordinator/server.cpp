#include "coordinator/server.h"

#include <fmt/format.h>

#include <algorithm>

#include "model/fold.h"
#include "protocol/problem.h"

namespace strata::coordinator {
namespace {

constexpr double kRetrySeconds = 5.0;    // after a full disk
constexpr double kLingerSeconds = 30.0;  // for clients to take the last round

// The same command may go on later, with the same clients.
bool resumable(ErrorCode code) {
  return code == ErrorCode::kInterrupted || code == ErrorCode::kQuorum || code == ErrorCode::kIo ||
         code == ErrorCode::kDiskFull;
}

}  // namespace

Server::Server(ServerConfig config, Coordinator core, ServerTools tools)
    : config_(std::move(config)), tools_(tools), core_(std::move(core)), machine_(config_.machine) {
  check(!config_.complete || core_.private_sum() == nullptr,
        "noise is drawn once, for all tensors");
}

Server::~Server() {
  *alive_ = false;
  tools_.executor.cancel(deadline_);
  tools_.executor.cancel(retry_);
  tools_.executor.cancel(linger_);
}

std::filesystem::path Server::updates_path(std::uint32_t round) const {
  return config_.folder / "updates" / (config_.keep_updates ? fmt::format("{:04}", round) : "open");
}

std::filesystem::path Server::result_path(std::uint32_t round) const {
  return config_.folder / "results" / fmt::format("{:04}", round);
}

std::unique_ptr<RoundFile> Server::round_file(std::uint32_t round) const {
  return std::make_unique<RoundFile>(
      tools_.disk, updates_path(round), config_.durability,
      RoundFactors{{config_.shared, round}, model::tensor_shapes(core_.model())});
}

void Server::start() {
  begun_ = true;
  advance_soon();
}

void Server::interrupt(const std::string& why) {
  if (ended_) return;
  flush();
  if (told_over_) {  // it only waits for clients that may come to hear of the end
    end({});
    return;
  }
  end(fail({.code = ErrorCode::kInterrupted,
            .what = why,
            .remedy = "the same command goes on where it stopped"}));
}

// The last word of this process about the run.
void Server::end(Result<void> how) {
  if (std::exchange(ended_, true)) return;
  tools_.executor.cancel(deadline_);
  tools_.executor.cancel(retry_);
  tools_.executor.cancel(linger_);
  if (!how) {
    // What was spent before, and in which runs, is the coordinator's own affair.
    const ErrorCode code = how.error().code;
    const bool spent = code == ErrorCode::kBudget;
    // Nor is it told who came to a round.
    const bool silent = core_.private_sum() != nullptr;
    const auto problem =
        protocol::problem_of(spent    ? Error{.code = code, .what = "REFUSED_BUDGET"}
                             : silent ? Error{.code = code, .what = "the coordinator cannot go on"}
                                      : how.error(),
                             resumable(code));
    each_session([&](Session& session) {
      send(session, problem);
      session.connection->close();
    });
  }
  tools_.executor.post([this, alive = alive_, how = std::move(how)] {
    if (*alive) tools_.observer.done(how);
  });
}

// In the order of their names: one run is one history.
void Server::each_session(const std::function<void(Session&)>& visit) {
  for (const auto& [client, connection] : by_client_) visit(sessions_.at(connection));
}

void Server::retry_later(const Error& why) {
  if (why.code != ErrorCode::kDiskFull) {
    end(fail(why));
    return;
  }
  tools_.observer.noticed(why.line() + "; trying again every few seconds");
  tools_.executor.cancel(retry_);
  retry_ = tools_.executor.after(kRetrySeconds, [this] { advance(); });
}

bool Server::decide(const RoundRecord& record) {
  if (auto appended = append(*journal_, record); !appended) {
    retry_later(appended.error());
    return false;
  }
  if (auto synced = journal_->sync(); !synced) {  // final: see Journal::sync()
    end(fail(synced.error()));
    return false;
  }
  if (auto applied = machine_.apply(record); !applied) {
    end(fail(applied.error()));
    return false;
  }
  return true;
}

void Server::advance_soon() {
  if (std::exchange(advance_posted_, true)) return;
  tools_.executor.post([this, alive = alive_] {
    if (!*alive) return;
    advance_posted_ = false;
    advance();
  });
}

void Server::advance() {
  while (begun_ && !ended_ && advance_once()) {
  }
}

bool Server::advance_once() {
  switch (machine_.phase()) {
    case Phase::kNotBegun:
      return decide(RunOpened{config_.run, config_.plan, core_.chain()});
    case Phase::kBetween:
      return machine_.rounds_left() ? open_round() : finish_run();
    case Phase::kOpen:
      return close_round();
    case Phase::kClosed:
      return fold_round();
    case Phase::kDone:
      linger();
      return false;
  }
  return false;
}

bool Server::open_round() {
  const RoundOpened opening = machine_.next_round(core_.chain());
  if (PrivateSum* sum = core_.private_sum()) {  // before anybody trains for it
    if (auto able = sum->affordable(machine_.run(), opening.round); !able) {
      end(fail(std::move(able).error()));
      return false;
    }
  }
  if (!decide(opening)) return false;
  updates_ = round_file(opening.round);
  kept_.clear();
  leaving_.clear();
  tools_.observer.opened(opening);
  tools_.executor.cancel(std::exchange(deadline_, 0));
  deadline_passed_ = false;
  arm_deadline();
  each_session([this](Session& session) { tell_round(session); });
  return true;
}

// A round's time runs from when its quorum was there for the first time since this process began: a
// coordinator that is started before its clients does not fail for it.
void Server::arm_deadline() {
  met_quorum_ = met_quorum_ || quorum_connected();
  if (config_.deadline_seconds <= 0.0 || deadline_ != 0 || deadline_passed_ || !met_quorum_ ||
      machine_.phase() != Phase::kOpen)
    return;
  deadline_at_ = tools_.clock.seconds() + config_.deadline_seconds;
  deadline_ = tools_.executor.after(config_.deadline_seconds, [this] {
    deadline_ = 0;
    deadline_passed_ = true;
    flush();
    advance();
  });
}

bool Server::quorum_connected() const {
  std::size_t ready = 0;
  for (const auto& [client, connection] : by_client_) {
    // Where a round may close with nobody, that its clients are absent shows to nobody.
    const bool counts = machine_.is_selected(client) || machine_.config().quorum == 0;
    if (sessions_.at(connection).ready && counts) ++ready;
  }
  return ready >= std::max(1u, machine_.config().quorum);
}

bool Server::close_round() {
  if (!waiting_.empty()) return false;  // the flush that is posted goes first
  if (!journal_leaving()) return false;
  if (machine_.hopeless(deadline_passed_)) {
    const auto barred = machine_.barred();
    std::string first =
        !machine_.out().empty() ? machine_.out().rbegin()->second
        : barred.empty()
            ? ""
            : fmt::format("{} {} not asked any more: {} updates were rejected",
                          fmt::join(barred, ", "), barred.size() == 1 ? "is" : "are", kRejectedMax);
    Error error{.code = ErrorCode::kQuorum,
                .what = fmt::format("round {} has {} usable updates", machine_.round(),
                                    machine_.accepted().size()),
                .rule = fmt::format("it needs {}", std::max(1u, machine_.config().quorum)),
                .remedy =
                    "see which clients were left out, or lower aggregation.min_clients; "
                    "the same command goes on with this round"};
    if (!first.empty()) error.doing.push_back(std::move(first));
    end(fail(std::move(error)));
    return false;
  }
  const auto closing = machine_.closing(deadline_passed_);
  if (!closing) return false;
  bool merged = true;
  if (config_.complete) {
    auto combined = combine(closing->contributors);
    if (!combined) {
      end(fail(std::move(combined).error()));
      return false;
    }
    merged = *combined;
  }
  const bool may = !config_.may_close || config_.may_close(machine_.round(), advance_later());
  if (!merged || !may) return false;
  if (!decide(*closing)) return false;
  give_up_uploads();
  tools_.executor.cancel(std::exchange(deadline_, 0));
  if (closing->by_deadline) {
    for (const auto& client : machine_.missing())
      tools_.observer.left_out({machine_.round(), client, std::string(kNothingCame)});
  }
  return true;
}

std::function<void()> Server::advance_later() {
  return [this, alive = alive_] {
    if (*alive) advance_soon();
  };
}

Result<std::optional<RoundReport>> Server::fold_updates() {
  if (PrivateSum* sum = core_.private_sum()) {
    if (tools_.disk.exists(result_path(machine_.round()))) return take_up_result();
    if (auto charged = sum->charge(machine_.run(), machine_.round()); !charged)
      return fail(std::move(charged).error());
  }
  auto combined = combine(machine_.contributors());
  if (!combined) return fail(std::move(combined).error());
  if (!*combined) return std::optional<RoundReport>();
  complete_ = false;
  return core_.fold_combined(*std::exchange(combined_, std::nullopt));
}

Result<bool> Server::combine(const std::vector<protocol::ClientId>& contributors) {
  if (!combined_) {
    for (const auto& client : contributors) {
      if (auto taken = core_.accept(kept_.at(client)); !taken)
        return fail(std::move(taken).error());
    }
    auto combined = core_.combine();
    if (!combined) return fail(std::move(combined).error());
    combined_ = std::move(*combined);
    combined_of_ = contributors;
  }
  check(combined_of_ == contributors, "a round that is combined before it is closed has everybody");
  if (!config_.complete || complete_) return true;
  auto complete = config_.complete(machine_.round(), combined_->aggregate.packet, advance_later());
  if (complete) complete_ = *complete;
  return complete;
}

// What a process before this one has made of the round, noise included.
Result<RoundReport> Server::take_up_result() {
  const auto path = result_path(machine_.round());
  auto file = tools_.disk.map(path);
  if (!file) return fail(std::move(file).error());
  auto change = protocol::RoundChange::parse((*file)->bytes(), model::tensor_shapes(core_.model()));
  if (!change) {
    Error error = std::move(change).error();
    error.code = ErrorCode::kDamaged;
    error.remedy = "remove the file: the round is then charged again and noised anew";
    return fail(std::move(error), path.string());
  }
  return core_.take_up(std::move(*change), machine_.contributors());
}

// On the disk, and known to whoever has charged for it, before anybody hears of it.
Result<void> Server::keep_result(const RoundCommitted& round, ByteSpan bytes) {
  auto written = tools_.disk.write_atomic(
      result_path(round.round), [&](sys::FileWriter& out) { return out.write(bytes); },
      config_.durability);
  if (!written) return written;
  PrivateSum* sum = core_.private_sum();
  return sum == nullptr ? Result<void>{} : sum->released(machine_.run(), round.round, round.result);
}

// Aggregates, folds, and commits; after a full disk only what is left to do is tried again.
bool Server::fold_round() {
  if (!folded_) {
    const double start = tools_.clock.seconds();
    auto report = fold_updates();
    if (!report) {
      end(fail(std::move(report).error()));
      return false;
    }
    if (!*report) return false;
    folded_ = std::make_unique<RoundReport>(std::move(**report));
    fold_seconds_ = tools_.clock.seconds() - start;
    told_ = false;
  }
  const Bytes bytes = folded_->aggregate.bytes();
  const RoundCommitted committed{.round = folded_->round,
                                 .result = sha256(bytes),
                                 .size = bytes.size(),
                                 .packet = folded_->packet,
                                 .chain = folded_->chain};
  if (auto kept = keep_result(committed, bytes); !kept) {
    retry_later(kept.error());
    return false;
  }
  if (!std::exchange(told_, true)) {
    if (auto taken = tools_.observer.closed(*folded_, core_, fold_seconds_); !taken) {
      end(fail(taken.error()));
      return false;
    }
  }
  if (!decide(committed)) return false;
  folded_.reset();
  kept_.clear();
  updates_.reset();
  objects_[committed.result] = {result_path(committed.round), committed.size};
  if (auto seen = tools_.observer.committed(committed); !seen) {
    end(fail(std::move(seen).error()));
    return false;
  }
  announce(committed);
  // Gone for good or not: a restart looks at the journal, not at this file. Until the last round
  // the next one writes over it, which is cheaper than a new file.
  if (!config_.keep_updates && !machine_.rounds_left())
    (void)tools_.disk.remove_all(updates_path(committed.round));
  return true;
}

void Server::announce(const RoundCommitted& round) {
  auto object = object_of(round);
  if (!object) {
    end(fail(std::move(object).error()));
    return;
  }
  each_session([&](Session& session) {
    if (!session.ready) return;
    send(session, protocol::RoundDone{.head = {round.round, round.chain}, .result = *object});
  });
}

bool Server::finish_run() {
  core_.settle();
  if (!decide(RunClosed{core_.state_hash()})) return false;
  each_session([this](Session& session) { tell_round(session); });
  return true;
}

// Clients that are connected hear of the end and leave; the process goes when they have.
void Server::linger() {
  if (!std::exchange(told_over_, true)) {
    if (auto heard = tools_.observer.over(); !heard) return end(fail(std::move(heard).error()));
  }
  // Started again after the end: clients that were cut off may still come back for it.
  if ((sessions_.empty() && met_anybody_) || lingered_) {
    end({});
  } else if (linger_ == 0) {
    linger_ = tools_.executor.after(kLingerSeconds, [this] {
      lingered_ = true;
      advance();
    });
  }
}

void Server::leave_out(const protocol::ClientId& client, const std::string& reason, bool rejected) {
  leaving_.emplace(client, Leaving{printable(reason, 400), rejected});
  advance_soon();
}

// Journals who is left out. False: not yet, the disk is full.
bool Server::journal_leaving() {
  while (!leaving_.empty()) {
    const auto& [client, leaving] = *leaving_.begin();
    const ClientOut out{machine_.round(), client, leaving.reason};
    if (machine_.judge(client, out.round, {}) == Verdict::kNew) {
      if (!decide(leaving.rejected ? RoundRecord(UpdateRejected{out.round, client, out.reason})
                                   : RoundRecord(out)))
        return false;
      tools_.observer.left_out(out);
      if (leaving.rejected && machine_.rejected(client) == kRejectedMax)
        tools_.observer.noticed(
            fmt::format("{} of {}'s updates were rejected: it is not asked again in this run",
                        kRejectedMax, client));
    }
    leaving_.erase(leaving_.begin());
  }
  return true;
}

void Server::flush_soon() {
  if (std::exchange(flush_posted_, true)) return;
  // Behind the frames that are here already: their updates share one flush.
  tools_.executor.post([this, alive = alive_] {
    if (!*alive) return;
    flush_posted_ = false;
    flush();
    advance();
  });
}

void Server::flush() {
  if (waiting_.empty() || ended_) return;
  auto waiting = std::exchange(waiting_, {});
  // What a failed flush has left on the disk nobody knows: only starting again tells.
  if (auto synced = updates_->sync(); !synced) {
    end(fail(std::move(synced).error()));
    return;
  }
  Result<void> done;
  std::size_t journaled = 0;
  while (done && journaled < waiting.size()) {
    done = append(*journal_, waiting[journaled].record);
    if (done) ++journaled;
  }
  if (!done && done.error().code != ErrorCode::kDiskFull) {
    end(fail(std::move(done).error()));
    return;
  }
  // A full disk may have let some in; what this flush confirms counts, the others come again.
  if (auto synced = journal_->sync(); !synced) {
    end(fail(std::move(synced).error()));
    return;
  }
  for (std::size_t i = 0; i < waiting.size(); ++i) {
    auto& [record, update] = waiting[i];
    Session* session = session_of(record.client);
    const protocol::Offer offer{
        .round = record.round, .base = machine_.head().chain, .update = {.hash = record.update}};
    if (i >= journaled) {
      if (session != nullptr)
        acknowledge(*session, offer, protocol::Outcome::kRetryLater, done.error().line());
      continue;
    }
    if (auto applied = machine_.apply(record); !applied) {
      end(fail(applied.error()));
      return;
    }
    kept_[record.client] = std::move(update);
    tools_.observer.accepted(record);
    if (session != nullptr) acknowledge(*session, offer, protocol::Outcome::kAccepted);
  }
}

}  // namespace strata::coordinator

#include "client/session.h"

#include <fmt/format.h>

#include <algorithm>

#include "protocol/problem.h"

namespace strata::client {
namespace {

constexpr double kRetrySeconds = 5.0;  // when the coordinator cannot keep it now
// What a coordinator hears of a client whose reasons are its own.
// For the coordinator; what happened is the data owner's to know.
constexpr std::string_view kLedgerRolledBack = "LEDGER_ROLLED_BACK";
constexpr std::string_view kRefusedBudget = "REFUSED_BUDGET";
constexpr std::string_view kFailed = "FAILED";

// Worth another attempt: the other side may be back, or be put right, by then.
bool passes(ErrorCode code) { return code == ErrorCode::kPeer || code == ErrorCode::kProtocol; }

}  // namespace

Session::Session(SessionConfig config, SessionTools tools)
    : config_(std::move(config)),
      tools_(tools),
      jitter_(sys::Stream(config_.seed)
                  .at({.client = sys::name_hash(config_.id), .purpose = "reconnect"})) {}

Session::~Session() {
  *alive_ = false;
  tools_.executor.cancel(timer_);
}

void Session::start() {
  if (const auto& last = tools_.outbox.last()) {
    run_ = last->run;
    auto state = tools_.outbox.state();
    auto restored = state ? tools_.worker.restore(*state) : fail(std::move(state).error());
    if (!restored) {
      end(fail(std::move(restored).error()));
      return;
    }
  }
  dial();
}

void Session::interrupt(const std::string& why) {
  if (ended_) return;
  const Error error{.code = ErrorCode::kInterrupted,
                    .what = why,
                    .remedy = "the same command goes on where it stopped"};
  if (connection_) {
    send(protocol::problem_of(error, true));
  }
  end(fail(error));
}

void Session::end(Result<protocol::Finished> how) {
  if (std::exchange(ended_, true)) return;
  tools_.executor.cancel(timer_);
  tools_.worker.abort();  // it may train ahead of what it was asked for
  lose_connection();
  if (std::exchange(fetched_, false)) (void)tools_.disk.remove_all(tools_.outbox.download());
  tools_.executor.post([this, alive = alive_, how = std::move(how)] {
    if (*alive) tools_.observer.done(how);
  });
}

void Session::lose_connection() {
  download_.reset();
  history_.reset();
  busy_following_ = false;
  welcomed_ = false;
  offered_ = 0;
  ++conversation_;
  open_.reset();
  finished_.reset();
  if (const auto connection = std::exchange(connection_, nullptr)) connection->close();
}

void Session::dial() {
  if (ended_) return;
  ++attempts_;
  tools_.dialer.dial(*this, [this, alive = alive_](const Error& why) {
    if (*alive) try_again(why);
  });
}

void Session::try_again(const Error& why) {
  if (ended_) return;
  lose_connection();
  if (spent_) {
    end(fail(*spent_));
    return;
  }
  if (!passes(why.code) || (config_.attempts_max > 0 && attempts_ >= config_.attempts_max)) {
    end(fail(why));
    return;
  }
  // Doubling pauses, each a fifth longer or shorter, so that clients do not come back in step.
  const double doubled = config_.first_pause *
                         static_cast<double>(1u << std::clamp(attempts_ + complaints_ - 1, 0, 20));
  const double pause = std::min(doubled, config_.longest_pause) * jitter_.uniform(0.8, 1.2);
  tools_.observer.disconnected(why, pause);
  tools_.executor.cancel(timer_);
  timer_ = tools_.executor.after(pause, [this] { dial(); });
}

void Session::on_open(const std::shared_ptr<transport::Connection>& connection) {
  if (ended_) {
    connection->close();
    return;
  }
  lose_connection();
  connection_ = connection;
  connection_->trust();  // the transport has proved who it is
  const auto mark = mark_now();
  if (!mark) return;
  send(protocol::Hello{.program = config_.program,
                       .run = run_,
                       .plan = config_.plan,
                       .head = tools_.base.head(),
                       .ledger = *mark});
}

void Session::on_end(transport::Connection& connection, const Error& why) {
  if (connection_.get() == &connection) try_again(why);
}

void Session::send(const protocol::Message& message) {
  if (connection_) connection_->send(protocol::to_frame(message, run_));
}

void Session::complain(const Error& why) {
  ++complaints_;
  send(protocol::problem_of(why));
  try_again(why);
}

void Session::on_frame(transport::Connection& connection, wire::Frame frame) {
  if (connection_.get() != &connection || ended_) return;
  auto message = protocol::from_frame(std::move(frame));
  if (!message) {
    complain(std::move(message).error());
    return;
  }
  const bool first = std::holds_alternative<protocol::Welcome>(*message);
  if (!std::holds_alternative<protocol::Problem>(*message) && first == welcomed_) {
    complain(protocol::breach(fmt::format("{} came", protocol::name(*message)),
                              first ? "WELCOME comes once" : "WELCOME comes first"));
    return;
  }
  std::visit([&](auto& m) { handle(m); }, *message);
}

template <class Other>
void Session::handle(const Other& m) {
  complain(protocol::breach(fmt::format("{} came", protocol::name(protocol::Message(m))),
                            "a coordinator sends no such message"));
}

void Session::handle(const protocol::Problem& m) {
  const Error why = protocol::error_of(m, "the coordinator");
  if (m.retry) {
    try_again(why);
  } else {
    end(fail(why));
  }
}

void Session::handle(const protocol::Welcome& m) {
  const auto& last = tools_.outbox.last();
  if (m.client != config_.id) {
    complain(protocol::breach("the coordinator takes this client for " + printable(m.client, 80),
                              "it is " + config_.id));
    return;
  }
  if (last && last->run != m.run) {
    end(fail({.code = ErrorCode::kConfig,
              .what = "the coordinator runs another run than the one this client has work of",
              .rule = "a client's state folder serves one run",
              .remedy = "give it another state folder, or remove the old one"}));
    return;
  }
  // A folder that was removed is one thing, one that has lost something another.
  const std::uint32_t held = last ? last->round : 0;
  if (config_.keep_updates && tools_.outbox.was_used() && m.last_round > held) {
    end(fail({.code = ErrorCode::kDamaged,
              .what = fmt::format("the coordinator has this client's update of round {}; the last "
                                  "whole one in its state folder is of round {}",
                                  m.last_round, held),
              .rule = "a client goes on from the state it had then",
              .remedy = "restore the folder from a copy, or remove it: the client then takes part "
                        "as one that has not trained yet"}));
    return;
  }
  run_ = m.run;  // of every message from here on, a complaint as well
  if (auto fits = config_.check_plan ? config_.check_plan(m.plan) : Result<void>{}; !fits) {
    send(protocol::problem_of(fits.error()));
    end(fail(std::move(fits).error()));
    return;
  }
  const bool reminded = m.remembered.records > 0;
  if (auto kept = reminded ? tools_.worker.check_remembered(m.remembered) : Result<void>{}; !kept) {
    if (kept.error().code == ErrorCode::kDamaged) {
      send(protocol::Problem{.code = std::string(name(kept.error().code)),
                             .message = std::string(kLedgerRolledBack)});
    }
    end(fail(std::move(kept).error()));
    return;
  }
  welcomed_ = true;
  attempts_ = 0;
  // Trained for, never accepted, and not kept: to be done again from the state before.
  const bool undone = last && last->update_bytes == 0 && m.last_round < last->round &&
                      m.head.round < last->round && training_ == 0;
  if (undone && !forget_last()) return;
  tools_.observer.connected(connection_->peer(), m);
  send(protocol::Ready{tools_.base.head()});
}

bool Session::has_update_of(std::uint32_t round) const {
  const auto& last = tools_.outbox.last();
  return last && last->round == round && last->update_bytes > 0;
}

void Session::handle(const protocol::RoundOpen& m) {
  if (training_ != 0 && training_ != m.round) tools_.worker.abort();
  open_ = m;
  go_on();
}

void Session::handle(const protocol::Finished& m) {
  if (training_ != 0) tools_.worker.abort();
  finished_ = m;
  open_.reset();
  go_on();
}

void Session::go_on() {
  if (!connection_ || !welcomed_ || busy_following_) return;
  const auto head = tools_.base.head();
  if (finished_) {
    if (head.round == finished_->head.round) {
      tools_.base.when_free([this, alive = alive_, now = conversation_] {
        if (*alive && now == conversation_ && finished_) finish();
      });
    } else {
      busy_following_ = true;
      send(protocol::CatchUp{head});
    }
    return;
  }
  if (!open_ || offered_ == open_->round) return;
  if (has_update_of(open_->round)) {
    offer();
    return;
  }
  if (training_ != 0) return;  // for this round, or soon not any more
  if (head.round + 1 == open_->round && head.chain == open_->base) {
    train();
  } else if (head.round + 1 < open_->round) {
    busy_following_ = true;
    send(protocol::CatchUp{head});
  } else {
    complain(protocol::breach(fmt::format("round {} is to be trained on {}", open_->round,
                                          hex(open_->base).substr(0, 12)),
                              fmt::format("this client's model is {} after round {}",
                                          hex(head.chain).substr(0, 12), head.round)));
  }
}

void Session::train() {
  const auto& last = tools_.outbox.last();
  const std::uint32_t round = open_->round;
  training_ = round;
  tools_.base.lease();
  tools_.observer.training(round);
  const RoundStart start{.run = run_,
                         .round = round,
                         .rounds = open_->rounds,
                         .base = open_->base,
                         .restart = open_->restart,
                         .used_before = open_->used_before && last && last->round + 1 == round};
  tools_.worker.train(start, [this, alive = alive_, base = open_->base,
                              round](Result<RoundDone> done) {
    if (!*alive) return;
    if (done) {
      OutboxEntry entry{.run = run_,
                        .round = round,
                        .base = base,
                        .training = done->training,
                        .state = std::move(done->state)};
      auto kept = config_.keep_updates ? tools_.outbox.put(std::move(entry), done->update)
                                       : tools_.outbox.put_state(std::move(entry), done->update);
      if (!kept) done = fail(std::move(kept).error());
    }
    trained(round, base, std::move(done));
  });
}

void Session::trained(std::uint32_t round, const Sha256& base, Result<RoundDone> done) {
  training_ = 0;
  tools_.base.release();
  if (ended_) return;
  if (!done) {
    const ErrorCode code = done.error().code;
    if (code == ErrorCode::kDiskFull || code == ErrorCode::kIo) {
      end(fail(std::move(done).error()));
      return;
    }
    if (code != ErrorCode::kInterrupted) {
      tools_.observer.failed(round, done.error());
      const bool refused = code == ErrorCode::kBudget;
      if (refused) spent_ = done.error();
      send(protocol::Failed{.round = round,
                            .base = base,
                            .reason = refused            ? std::string(kRefusedBudget)
                                      : config_.discreet ? std::string(kFailed)
                                                         : done.error().line()});
      if (open_ && open_->round == round) open_.reset();
    }
    go_on();
    return;
  }
  tools_.observer.trained(round, done->training, done->update.size());
  if (open_ && open_->round == round) {
    if (config_.keep_updates) {
      offer();
      return;
    }
    // Nothing keeps it but this message.
    if (!release_last()) return;
    const auto mark = mark_now();
    if (!mark) return;
    offered_ = round;
    const std::uint64_t size = done->update.size();
    send(protocol::Offer{.round = round,
                         .base = open_->base,
                         .update = {.hash = tools_.outbox.last()->update,
                                    .size = size,
                                    .data = std::move(done->update)},
                         .training = done->training,
                         .ledger = *mark});
  } else {
    go_on();
  }
}

bool Session::release_last() {
  const auto& entry = *tools_.outbox.last();
  auto released = tools_.worker.release(entry.run, entry.round, entry.update);
  if (!released) end(fail(std::move(released).error()));
  return !ended_;
}

std::optional<protocol::LedgerMark> Session::mark_now() {
  auto mark = tools_.worker.mark();
  if (mark) return *mark;
  end(fail(std::move(mark).error()));
  return std::nullopt;
}

void Session::offer() {
  if (!release_last()) return;
  const auto mark = mark_now();
  if (!mark) return;
  const auto& entry = *tools_.outbox.last();
  protocol::Offer message{.round = entry.round,
                          .base = entry.base,
                          .update = {.hash = entry.update, .size = entry.update_bytes, .data = {}},
                          .training = entry.training,
                          .ledger = *mark};
  if (entry.update_bytes <= config_.inline_bytes) {
    auto bytes = tools_.outbox.read(0, entry.update_bytes);
    if (!bytes) {
      end(fail(std::move(bytes).error()));
      return;
    }
    message.update.data.assign(bytes->bytes.begin(), bytes->bytes.end());
  }
  offered_ = entry.round;
  send(message);
}

void Session::handle(const protocol::Fetch& m) {
  const auto& last = tools_.outbox.last();
  if (!last || last->update != m.object || m.offset >= last->update_bytes) {
    complain(
        protocol::breach("an object that is not there was asked for", "it is the offered update"));
    return;
  }
  auto bytes = tools_.outbox.read(m.offset, std::min(m.length, last->update_bytes - m.offset));
  if (!bytes) {
    end(fail(std::move(bytes).error()));
    return;
  }
  connection_->send(protocol::chunk_frame(m.object, m.offset, bytes->bytes, run_));
}

void Session::handle(const protocol::Ack& m) {
  tools_.observer.acknowledged(m);
  if (!open_ || open_->round != m.round) return;
  const auto& last = tools_.outbox.last();
  const Sha256& base = last && last->round == m.round ? last->base : open_->base;
  if (m.base != base) {
    complain(protocol::breach(
        fmt::format("an answer for round {} on {} came", m.round, hex(m.base).substr(0, 12)),
        fmt::format("the update was trained on {}", hex(base).substr(0, 12))));
    return;
  }
  complaints_ = 0;
  if (m.outcome != protocol::Outcome::kRetryLater) {
    open_.reset();
    return;
  }
  if (!config_.keep_updates && !forget_last()) return;
  tools_.executor.cancel(timer_);
  timer_ = tools_.executor.after(kRetrySeconds, [this] {
    offered_ = 0;
    go_on();
  });
}

// Back to the state before the last trained round.
bool Session::forget_last() {
  auto done = tools_.outbox.drop_last();
  auto state = done ? tools_.outbox.state() : fail(std::move(done).error());
  done = state ? tools_.worker.restore(*state) : fail(std::move(state).error());
  if (!done) end(fail(std::move(done).error()));
  return !ended_;
}

void Session::handle(protocol::RoundDone& m) {
  if (open_ && open_->round <= m.head.round) open_.reset();
  if (training_ != 0 && training_ <= m.head.round) tools_.worker.abort();
  if (tools_.base.head().round + 1 == m.head.round && !busy_following_)
    follow(m.head, std::move(m.result));
}

}  // namespace strata::client

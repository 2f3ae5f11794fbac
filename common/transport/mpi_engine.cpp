#include "transport/mpi_engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <thread>

namespace strata::transport {
namespace {

using Microseconds = std::chrono::microseconds;
constexpr Microseconds kPauseMin{50};
constexpr Microseconds kPauseMax{1000};
// A round's messages follow each other, with a flush or two between them: so long after the last
// one the next is looked for as often as this.
constexpr double kAlertSeconds = 0.02;
constexpr Microseconds kPauseAlert{100};
// Turns without news, while something is under way, before the first pause.
constexpr int kEagerTurns = 64;
// Beats of a rank that may fail to come before it is thought dead at the end of a job.
constexpr double kPartingBeats = 3;
// Messages taken in before what we have to say has its turn.
constexpr int kMessagesPerTurn = 64;

// Often enough that no limit is overdrawn by more than an eighth.
double tick_for(const MpiOptions& options) {
  return std::clamp(std::min({options.heartbeat_s, options.dead_s, options.close_s}) / 8, 0.005,
                    0.25);
}

}  // namespace

MpiEngine::MpiEngine(std::unique_ptr<MpiPort> port, MpiLink::ToExecutor executor,
                     const sys::Clock& clock, MpiOptions options)
    : port_(std::move(port)),
      executor_(std::move(executor)),
      clock_(clock),
      options_(options),
      door_(std::make_shared<Door>(*this)),
      tick_s_(tick_for(options)) {}

void MpiEngine::post(std::function<void()> task) {
  {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  news_.notify_one();
}

void MpiEngine::run() {
  if (start()) {
    while (!given_up_ && !ended_) rest(turn());
  }
  leave();
}

bool MpiEngine::start() {
  auto place = port_->start();
  if (given_up_) return false;
  now_ = clock_.seconds();
  if (place) {
    place_ = *place;
    deaf_until_ = now_;
    ranks_.reserve(static_cast<std::size_t>(place_.size));
    for (int rank = 0; rank < place_.size; ++rank) ranks_.emplace_back(rank);
  }
  const bool good = place.has_value();
  started_.set_value(std::move(place));
  return good;
}

bool MpiEngine::turn() {
  const double before = now_;
  now_ = clock_.seconds();
  // This process was stopped, or starved: the others were not silent, we did not look.
  if (now_ - before > options_.dead_s / 4) deaf_until_ = now_;
  bool moved = run_tasks();
  moved |= receive();
  moved |= send();
  if (now_ >= next_tick_) tick();
  if (finishing_ && (farewells_done() || now_ > finish_by_)) ended_ = true;
  return moved;
}

bool MpiEngine::run_tasks() {
  std::vector<std::function<void()>> tasks;
  {
    const std::lock_guard lock(mutex_);
    tasks.swap(tasks_);
  }
  for (const auto& task : tasks) task();
  return !tasks.empty();
}

bool MpiEngine::receive() {
  if (deaf_) return false;
  for (int i = 0; i < kMessagesPerTurn; ++i) {
    if (*inbox_ > options_.inbox_bytes_max) {
      deaf_until_ = now_;
      return i > 0;
    }
    const auto arrival = port_->receive();
    if (!arrival) {
      deaf_ = true;
      for (int rank = 0; rank < place_.size; ++rank) lose(rank, arrival.error());
      return true;
    }
    if (!*arrival) return i > 0;
    take(**arrival);
  }
  return true;
}

bool MpiEngine::send() {
  bool moved = false;
  for (int rank = 0; rank < place_.size; ++rank) {
    const auto sent = rank_at(rank).outbox.turn(*port_, now_);
    if (sent) {
      moved |= *sent;
    } else {
      rank_at(rank).outbox.shut();
      lose(rank, sent.error());
    }
  }
  return moved;
}

void MpiEngine::rest(bool moved) {
  if (moved || ended_) {
    calm_turns_ = 0;
    moved_at_ = now_;
    return;
  }
  ++calm_turns_;
  const bool busy =
      port_->receiving() || std::any_of(ranks_.begin(), ranks_.end(), [](const Rank& rank) {
        return rank.there() && rank.outbox.under_way();
      });
  if (busy && calm_turns_ < kEagerTurns) return std::this_thread::yield();
  const int doublings = std::min(busy ? calm_turns_ - kEagerTurns : calm_turns_ - 1, 5);
  const auto longest = now_ - moved_at_ < kAlertSeconds ? kPauseAlert : kPauseMax;
  const auto pause = std::min(longest, kPauseMin * (1 << doublings));
  std::unique_lock lock(mutex_);
  news_.wait_for(lock, pause, [this] { return !tasks_.empty(); });
}

// Without farewells there is no MPI_Finalize: it might never return, and whoever stops an engine
// so is on the way out.
void MpiEngine::leave() {
  door_->close();
  {
    const std::lock_guard lock(mutex_);
    tasks_.clear();
  }
  for (const auto& [key, session] : sessions_) session->meter->over = true;
  sessions_.clear();
  quiet_.set_value();
  if (finishing_ && !given_up_) {
    port_->finish();
  } else {
    std::vector<Bytes> sending;
    for (Rank& rank : ranks_) {
      if (rank.outbox.under_way()) sending.push_back(rank.outbox.take_buffer());
    }
    MpiPort& port = *port_;
    port.abandon(std::move(port_), std::move(sending));
  }
  left_.set_value();
}

void MpiEngine::finish(double wait_s) {
  handler_ = nullptr;
  const auto sessions = sessions_;
  for (const auto& [key, session] : sessions) close(session);
  for (int rank = 0; rank < place_.size; ++rank) {
    // Those that left before wait for it.
    if (watches(rank) && !rank_at(rank).lost)
      rank_at(rank).outbox.push(MpiKind::kFarewell, MpiEnd::kListener, 0, {});
  }
  finishing_ = true;
  finish_by_ = now_ + wait_s;
}

bool MpiEngine::has_left(int rank) const {
  const std::lock_guard lock(mutex_);
  return farewells_.contains(rank);
}

bool MpiEngine::farewells_done() const {
  for (int number = 0; number < place_.size; ++number) {
    const Rank& rank = ranks_[static_cast<std::size_t>(number)];
    if (watches(number) && rank.there()) return false;
    if (!rank.lost && !rank.outbox.empty()) return false;
  }
  return true;
}

void MpiEngine::tick() {
  next_tick_ = now_ + tick_s_;
  for (int rank = 0; rank < place_.size; ++rank) {
    if (watches(rank)) watch(rank, rank_at(rank));
  }
  for (auto at = sessions_.begin(); at != sessions_.end();) {
    const Session& session = *at->second;
    const bool closing = session.stage == Stage::kClosing;
    if (closing && now_ - session.closed_at > options_.close_s) {
      const MpiEnd theirs = session.end == MpiEnd::kDialer ? MpiEnd::kListener : MpiEnd::kDialer;
      rank_at(session.rank).outbox.drop_frames(theirs, session.number);
    }
    at = closing && session.meter->over ? sessions_.erase(at) : std::next(at);
  }
}

void MpiEngine::watch(int number, Rank& rank) {
  if (rank.left) return;
  const double silence = now_ - std::max(rank.heard, deaf_until_);
  // Rank 0 goes last: one that still lives and is thought dead then loses its last words at most.
  const bool parting = finishing_ && place_.rank == 0;
  const double patience =
      parting ? std::min(options_.dead_s, kPartingBeats * options_.heartbeat_s) : options_.dead_s;
  if (!rank.lost && silence > patience) {
    lose(number, {.code = ErrorCode::kPeer,
                  .what = fmt::format("has been silent for {:.3g} s", silence),
                  .rule = fmt::format("a rank is heard of every {:.3g} s", patience)});
  }
  // A lost rank may have been asleep, and then thinks the same of us.
  const double pause = rank.lost ? options_.dead_s : options_.heartbeat_s;
  if (rank.outbox.empty() && !rank.outbox.under_way() && now_ - rank.outbox.said() >= pause)
    rank.outbox.push(MpiKind::kBeat, MpiEnd::kListener, 0, {});
}

void MpiEngine::lose(int rank, const Error& why) {
  Error named = why;
  named.where = fmt::format("rank {}", rank);
  named.code = ErrorCode::kPeer;
  if (!rank_at(rank).lost) rank_at(rank).lost = named;
  end_all_of(rank, named, true);
}

}  // namespace strata::transport

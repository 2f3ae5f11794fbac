#include "client/ahead_worker.h"

#include <fmt/format.h>

#include <utility>

namespace strata::client {

AheadWorker::AheadWorker(std::unique_ptr<RoundWorker> worker, Outbox kept, AheadTools tools)
    : worker_(std::move(worker)), kept_(std::move(kept)), tools_(tools) {}

AheadWorker::~AheadWorker() { *alive_ = false; }

bool AheadWorker::holds(std::uint32_t round) const {
  const auto& last = kept_.last();
  return last && last->round == round && tools_.outbox.last() &&
         last->run == tools_.outbox.last()->run;
}

bool AheadWorker::is_ahead_of(std::uint32_t round) {
  if (round >= tools_.rounds || holds(round + 1)) return true;
  const auto& last = tools_.outbox.last();
  if (!last || last->round != round) {  // it was taken, so it was there
    lose({.code = ErrorCode::kDamaged,
          .what = fmt::format("does not hold round {} any more", round),
          .where = tools_.outbox.download().parent_path().string(),
          .rule = "a client goes on from the state it had then",
          .remedy = "restore the folder from a copy, or begin anew with --force"});
    return false;
  }
  go_ahead(round + 1);
  return false;
}

void AheadWorker::go_ahead(std::uint32_t round) {
  const auto& last = tools_.outbox.last();
  const bool time = last && last->round + 1 == round && state_of_ + 1 == round &&
                    tools_.base.head().round + 2 == round;
  if (!time || is_lost_ || training_ || round > tools_.rounds || holds(round)) return;
  training_ = round;
  tools_.base.lease();
  const RoundStart start{.run = last->run,
                         .round = round,
                         .rounds = tools_.rounds,
                         .base = tools_.base.head().chain,
                         .restart = protocol::Restart::kKeep,
                         .used_before = true};
  worker_->train(start, [this, round, base = start.base, alive = alive_](Result<RoundDone> done) {
    if (*alive) take(round, base, std::move(done));
  });
}

void AheadWorker::take(std::uint32_t round, const Sha256& base, Result<RoundDone> done) {
  training_.reset();
  Result<void> kept;
  if (done) {
    state_of_ = round;
    kept = kept_.put({.run = tools_.outbox.last()->run,
                      .round = round,
                      .base = base,
                      .training = done->training,
                      .state = std::move(done->state)},
                     done->update);
  } else {
    kept = fail(std::move(done).error());
  }
  if (!kept && kept.error().code != ErrorCode::kInterrupted) lose(kept.error());
  tools_.base.release();
  if (kept && moved) moved();
}

void AheadWorker::lose(const Error& why) {
  if (std::exchange(is_lost_, true) || !lost) return;
  tools_.executor.post([this, why, alive = alive_] {
    if (*alive) lost(why);
  });
}

Result<RoundDone> AheadWorker::kept_round() {
  const OutboxEntry& entry = *kept_.last();
  auto update = kept_.read(0, entry.update_bytes);
  if (!update) return fail(std::move(update).error());
  auto state = kept_.state();
  if (!state) return fail(std::move(state).error());
  if (state_of_ != entry.round) {  // trained for by a process before this one
    if (auto restored = worker_->restore(*state); !restored)
      return fail(std::move(restored).error());
    state_of_ = entry.round;
  }
  return RoundDone{.update = Bytes(update->bytes.begin(), update->bytes.end()),
                   .state = std::move(*state),
                   .training = entry.training};
}

void AheadWorker::train(const RoundStart& start, std::function<void(Result<RoundDone>)> done) {
  const auto answer = [this, round = start.round, then = std::move(done),
                       alive = alive_](Result<RoundDone> result) {
    if (!*alive) return;
    if (!result && result.error().code != ErrorCode::kInterrupted) return lose(result.error());
    if (result) state_of_ = round;
    then(std::move(result));
  };
  if (start.round == 1) return worker_->train(start, answer);  // nothing is ahead of it
  const bool here = holds(start.round);
  auto found = std::make_shared<Result<RoundDone>>(
      here ? kept_round()
           : fail({.code = ErrorCode::kDamaged,
                   .what = fmt::format("round {} is not there, whose model is gone", start.round),
                   .where = kept_.download().parent_path().string(),
                   .rule = "with aggregation.overlap it was kept before round " +
                           std::to_string(start.round - 1) + " was closed",
                   .remedy = "restore the folder from a copy, or begin anew with --force"}));
  tools_.executor.post([answer, found] { answer(std::move(*found)); });
}

void AheadWorker::abort() { worker_->abort(); }

Result<void> AheadWorker::release(const protocol::RunId& run, std::uint32_t round,
                                  const Sha256& update) {
  auto released = worker_->release(run, round, update);
  if (released) go_ahead(round + 1);
  return released;
}

Result<void> AheadWorker::restore(ByteSpan state) {
  auto restored = worker_->restore(state);
  if (!restored) return restored;
  const auto& last = tools_.outbox.last();
  state_of_ = last ? last->round : 0;
  if (moved) moved();
  return {};
}

}  // namespace strata::client

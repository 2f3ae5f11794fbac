#pragma once
// Merges that travel while the next round is trained. Round r + 1 begins as soon as this client's
// update of round r may be shown, on the model after round r - 1: the base that round r was trained
// on, beside which the client carries its own round r (ClientSpec::late). So a round is one merge
// late, and for everybody equally, however long anything takes: the bits do not depend on time.
//
//   round      1        2        3        4
//   trained on M0       M0       M1       M2
//
// The price of going on after a crash: a round's model is gone once the next is folded. So a round
// may only be closed when the one ahead is on the disk (is_ahead_of), in an outbox of its own. The
// members of such a run all take part in every round.
// Threads: everything in the executor's.
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>

#include "client/base_model.h"
#include "client/outbox.h"
#include "client/round_worker.h"
#include "sys/disk.h"
#include "sys/executor.h"

namespace strata::client {

struct AheadTools {
  sys::Executor& executor;
  BaseModel& base;
  const Outbox& outbox;  // of the session that this trains for
  std::uint32_t rounds = 1;
};

class AheadWorker final : public RoundWorker {
 public:
  /// `worker` trains; `kept`, of nobody else, holds the round ahead.
  AheadWorker(std::unique_ptr<RoundWorker> worker, Outbox kept, AheadTools tools);
  ~AheadWorker() override;
  AheadWorker(const AheadWorker&) = delete;
  AheadWorker& operator=(const AheadWorker&) = delete;

  /// Whether the round behind `round` is trained for and on the disk, or there is none: `round` may
  /// be closed. If not, it is begun, and `moved` called when that may have changed.
  [[nodiscard]] bool is_ahead_of(std::uint32_t round);
  std::function<void()> moved;
  /// The client cannot train: without it no round closes. Called instead of the answer to train().
  std::function<void(const Error&)> lost;

  void train(const RoundStart& start, std::function<void(Result<RoundDone>)> done) override;
  void abort() override;
  [[nodiscard]] Result<void> release(const protocol::RunId& run, std::uint32_t round,
                                     const Sha256& update) override;
  [[nodiscard]] Result<protocol::LedgerMark> mark() override { return worker_->mark(); }
  [[nodiscard]] Result<void> check_remembered(const protocol::LedgerMark& seen) override {
    return worker_->check_remembered(seen);
  }
  [[nodiscard]] Result<void> restore(ByteSpan state) override;

 private:
  /// Begins to train for `round`, the one behind the open one, if it is time for it.
  void go_ahead(std::uint32_t round);
  void take(std::uint32_t round, const Sha256& base, Result<RoundDone> done);
  [[nodiscard]] bool holds(std::uint32_t round) const;
  [[nodiscard]] Result<RoundDone> kept_round();
  void lose(const Error& why);

  std::unique_ptr<RoundWorker> worker_;
  Outbox kept_;
  AheadTools tools_;
  std::uint32_t state_of_ = 0;             // the round after which worker_'s state is
  std::optional<std::uint32_t> training_;  // ahead
  bool is_lost_ = false;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace strata::client

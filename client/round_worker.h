#pragma once
// What trains for a session: one client's rounds. The session decides when; this does. Training may
// take as long as it takes, elsewhere; its end is told in the executor's thread.
#include <functional>

#include "base/bytes.h"
#include "base/result.h"
#include "protocol/messages.h"
#include "protocol/round_change.h"

namespace strata::client {

/// What a round asks of a client, and where it stands.
struct RoundStart {
  protocol::RunId run{};
  std::uint32_t round = 0;  // from 1
  std::uint32_t rounds = 1;
  Sha256 base{};  // chain hash of the model trained on
  protocol::Restart restart = protocol::Restart::kFresh;
  /// The client's update of the round before was used: it goes on from it, if the policy says so.
  bool used_before = false;
};

/// A trained round.
struct RoundDone {
  Bytes update;  // as protocol::encode() writes it
  Bytes state;   // what restore() takes
  protocol::Training training;
};

class RoundWorker {
 public:
  virtual ~RoundWorker() = default;
  /// Trains; then calls `done` once: with the round, with kInterrupted after abort(), with kBudget
  /// when the data owner's budget does not allow it, or with why it failed. After a failure the
  /// client is as it was before.
  virtual void train(const RoundStart& start, std::function<void(Result<RoundDone>)> done) = 0;
  /// The round that is trained for, if any, is of no use any more.
  virtual void abort() = 0;
  /// The update of a round, which is durable, is about to be sent, perhaps again. An error keeps it
  /// here and ends the conversation.
  [[nodiscard]] virtual Result<void> release(const protocol::RunId& /*run*/,
                                             std::uint32_t /*round*/, const Sha256& /*update*/) {
    return {};
  }
  /// Where its owner's record of what was released stands; zeros: none is kept.
  [[nodiscard]] virtual Result<protocol::LedgerMark> mark() { return protocol::LedgerMark{}; }
  /// kDamaged when the record is not one that went on from `seen`.
  [[nodiscard]] virtual Result<void> check_remembered(const protocol::LedgerMark& /*seen*/) {
    return {};
  }
  /// The client's state after an earlier round; an empty one is that before the first. kDamaged for
  /// one that does not fit.
  [[nodiscard]] virtual Result<void> restore(ByteSpan state) = 0;
};

}  // namespace strata::client

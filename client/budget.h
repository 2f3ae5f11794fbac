#pragma once
// The data owner's say in a private round: what it costs is charged before anything is computed,
// and nothing leaves that was not charged. Kept outside of training and conversation, which only
// ask.
#include <cstdint>

#include "base/hash.h"
#include "base/result.h"
#include "protocol/messages.h"

namespace strata::client {

/// Threads: any; calls wait for each other.
class Budget {
 public:
  virtual ~Budget() = default;
  /// Charges a round of a run; durable when it returns. kBudget when a cap would be exceeded: its
  /// sentence is for the data owner, not for the coordinator.
  [[nodiscard]] virtual Result<void> reserve(const protocol::RunId& run, std::uint32_t round) = 0;
  /// The round's update is about to be sent for the first time; the same one again is free. kBudget
  /// when it was not charged.
  [[nodiscard]] virtual Result<void> release(const protocol::RunId& run, std::uint32_t round,
                                             const Sha256& update) = 0;
  /// Where the record of what was charged stands.
  [[nodiscard]] virtual Result<protocol::LedgerMark> mark() = 0;
  /// `seen` is a mark that somebody else remembers of it. kDamaged when the record has not got that
  /// far any more, or went another way: an old copy was put back.
  [[nodiscard]] virtual Result<void> check_remembered(const protocol::LedgerMark& seen) = 0;
};

}  // namespace strata::client

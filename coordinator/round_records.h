#pragma once
// What a coordinator journals: every input that decided something, and every decision that was
// promised. Replayed in order they give the state of the run (round_machine.h). Their bytes:
// docs/formats/journal.md.
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/hash.h"
#include "base/result.h"
#include "journal/journal.h"
#include "protocol/messages.h"

namespace strata::coordinator {

/// Kind of journal.
inline constexpr std::uint16_t kRoundJournal = 1;

struct RunOpened {
  protocol::RunId run{};
  Sha256 plan{};  // hash of the plan
  Sha256 base{};  // state hash of the base model
};

struct RoundOpened {
  std::uint32_t round = 0;
  Sha256 base{};                             // chain hash of the model to train on
  std::vector<protocol::ClientId> selected;  // in order of names
};

/// An update lies whole, checked and flushed in the round's file.
struct UpdateAccepted {
  std::uint32_t round = 0;
  protocol::ClientId client;
  Sha256 update{};
  std::uint64_t offset = 0;  // in the round's file
  std::uint64_t size = 0;
  protocol::Training training;
};

/// A round that could not reach its quorum gets another try: who was left out is asked again.
struct RoundReopened {
  std::uint32_t round = 0;
};

/// What lies in the update's region is not what was accepted: the client is asked again.
struct UpdateLost {
  std::uint32_t round = 0;
  protocol::ClientId client;
};

/// What the client sent is not fit for use: it will not contribute to the round.
struct UpdateRejected {
  std::uint32_t round = 0;
  protocol::ClientId client;
  std::string reason;
};

/// The client will not contribute to the round: it failed.
struct ClientOut {
  std::uint32_t round = 0;
  protocol::ClientId client;
  std::string reason;
};

struct RoundClosed {
  std::uint32_t round = 0;
  std::vector<protocol::ClientId> contributors;  // in order of names: the order of every sum
  bool by_deadline = false;
};

/// Why a selected client is neither in a round that closed by its deadline nor left out of it.
inline constexpr std::string_view kNothingCame = "nothing came before the deadline";

/// What the round came to is on the disk.
struct RoundCommitted {
  std::uint32_t round = 0;
  Sha256 result{};  // hash of the round's result file
  std::uint64_t size = 0;
  Sha256 packet{};
  Sha256 chain{};
};

struct RunClosed {
  Sha256 state{};  // state hash of the final model
};

using RoundRecord =
    std::variant<RunOpened, RoundOpened, UpdateAccepted, ClientOut, RoundClosed, RoundCommitted,
                 RunClosed, UpdateLost, RoundReopened, UpdateRejected>;

[[nodiscard]] Result<void> append(journal::Journal& journal, const RoundRecord& record);
/// kDamaged for a record that is none of ours or not whole.
[[nodiscard]] Result<RoundRecord> round_record(const journal::Record& record);
[[nodiscard]] std::string_view name(const RoundRecord& record);

}  // namespace strata::coordinator

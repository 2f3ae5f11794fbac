#pragma once
// What coordinator and client say to each other, as typed values. Transports carry them as bytes
// and know nothing of their meaning. docs/formats/wire.md shows who says what when.
//
// Every message names the model it speaks of by its chain hash, and so the whole history behind it;
// parts of objects are named by the object's own hash, which such a message announced.
//
// Objects (an update, what a round came to, a snapshot of the model) are named by the SHA-256 of
// their bytes and fetched piece by piece by whoever needs them, so that no side ever holds or waits
// for more than it asked for; small ones ride inside the message that announces them.
#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <variant>
#include <vector>

#include "adapter/adapter.h"
#include "adapter/delta_terms.h"
#include "base/bytes.h"
#include "base/hash.h"
#include "wire/frame.h"

namespace strata::protocol {

using ClientId = std::string;  // [a-z0-9][a-z0-9._-]{0,62}
using wire::RunId;

/// Of this program; a peer of another one is refused by name.
inline constexpr std::uint16_t kVersion = 2;
/// Objects up to this size ride inside messages.
inline constexpr std::uint64_t kInlineBytes = 64u << 10;

/// A client's contribution to a round.
struct Update {
  ClientId client;
  std::uint32_t round = 0;
  Sha256 base{};              // chain hash of the model it was trained on
  double weight = 1.0;        // relative; > 0
  adapter::DeltaTerms delta;  // scale folded into B
};

/// How clients start the next round.
enum class Restart : std::uint8_t {
  kFresh,  // new factors, zero moments
  kKeep,   // factors and moments stay; the folded product is subtracted (LTE without reset)
  kMean,   // the averaged factors of the control methods, on an unchanged base
};

/// A state of the model: the base with the rounds up to `round` folded in.
struct Head {
  std::uint32_t round = 0;
  Sha256 chain{};  // names the whole history; of the base itself for round 0
  friend bool operator==(const Head&, const Head&) = default;
};

/// Where an object is and how large; `data` holds it when it is small.
struct Object {
  Sha256 hash{};
  std::uint64_t size = 0;
  Bytes data;
};

/// How far a client's own record of what its data has been through had got: so that somebody else
/// can remind it when an old copy is put back. Tells how often something was charged, not what.
struct LedgerMark {
  Sha256 ledger{};  // which one; zeros: none is kept
  std::uint64_t records = 0;
  Sha256 head{};  // hash of the last record
  friend bool operator==(const LedgerMark&, const LedgerMark&) = default;
};

/// First of all, client to coordinator.
struct Hello {
  std::uint16_t min_version = kVersion;
  std::uint16_t max_version = kVersion;
  std::string program;  // "strata 0.1.0", for people
  RunId run{};          // that it has work of; zeros: none
  Sha256 plan{};        // hash of the plan that it holds; zeros: none
  Head head;            // of its model
  LedgerMark ledger;
};

/// The answer: the client is connected.
struct Welcome {
  std::uint16_t version = kVersion;
  RunId run{};
  ClientId client;               // as the transport knows it
  std::string plan;              // JSON (docs/formats/plan.md), the client's own part included
  Head head;                     // of the coordinator's model
  std::uint32_t last_round = 0;  // of the client's last accepted update; 0: none
  LedgerMark remembered;         // the farthest that this ledger was seen; zeros: never
};

/// The client holds the plan and takes part.
struct Ready {
  Head head;  // of its model
};

/// Train for this round, on the model that `base` names.
struct RoundOpen {
  std::uint32_t round = 0;
  std::uint32_t rounds = 0;
  Sha256 base{};
  Restart restart = Restart::kFresh;
  bool used_before = false;       // the client's update of the round before is part of `base`
  double deadline_seconds = 0.0;  // from now; 0: none
};

/// What a client tells of its training beside the update itself.
struct Training {
  std::uint64_t steps = 0;
  std::uint64_t tokens = 0;
  std::uint64_t trained_tokens = 0;
  double first_loss = 0.0;
  double last_loss = 0.0;
  double seconds = 0.0;
  double encoding_error = 0.0;  // relative L2 error of the update as encoded
};

/// The order in which its fields travel and are kept (base/archive.h).
template <class A, class T>
void training_fields(A& a, T& t) {
  a(t.steps), a(t.tokens), a(t.trained_tokens), a(t.first_loss), a(t.last_loss), a(t.seconds);
  a(t.encoding_error);
}

/// An update lies in the client's outbox.
struct Offer {
  std::uint32_t round = 0;
  Sha256 base{};
  Object update;
  Training training;
  LedgerMark ledger;  // with this update's charge and release in it
};

/// The client cannot contribute to the round.
struct Failed {
  std::uint32_t round = 0;
  Sha256 base{};  // chain hash of the model it was to train on
  std::string reason;
};

enum class Outcome : std::uint8_t {
  kAccepted,    // durable: the client may forget it once the round is over
  kDuplicate,   // had been accepted before
  kLate,        // the round is closed
  kRejected,    // not fit for use; final
  kRetryLater,  // the coordinator cannot keep it now
};

struct Ack {
  std::uint32_t round = 0;
  Sha256 base{};  // as the offer names it
  Sha256 update{};
  Outcome outcome = Outcome::kAccepted;
  std::string reason;
};

/// The round is folded into the coordinator's model.
struct RoundDone {
  Head head;      // after it
  Object result;  // as protocol/round_change.h
};

/// The client's model stands at `head`; it asks for what follows.
struct CatchUp {
  Head head;
};

struct HistoryEntry {
  Head head;  // after the round
  Object result;
};

/// What leads from the client's model to the coordinator's: the results of the rounds between, or,
/// where that is fewer bytes, the changed tensors as they are now.
struct History {
  std::vector<HistoryEntry> rounds;
  Head snapshot_head;
  Object snapshot;  // size 0: none
  Sha256 state{};   // state hash of the model it leads to; zeros once the run is over
};

/// Asks for a part of an object.
struct Fetch {
  Sha256 object{};
  std::uint64_t offset = 0;
  std::uint64_t length = 0;  // up to wire::kChunkBytes
};

struct Chunk {
  Sha256 object{};
  std::uint64_t offset = 0;
  Bytes data;
};

/// All rounds are done.
struct Finished {
  Head head;
  Sha256 state{};  // state hash of the final model
};

/// Why the sender closes the connection now.
struct Problem {
  std::string code;  // "E_QUORUM", ...: docs/errors.md
  std::string message;
  bool retry = false;  // another attempt later may go well
};

using Message = std::variant<Hello, Welcome, Ready, RoundOpen, Offer, Failed, Ack, RoundDone,
                             CatchUp, History, Fetch, Finished, Problem, Chunk>;

/// The message as a frame of the given run.
[[nodiscard]] wire::Frame to_frame(const Message& message, const RunId& run);
/// The frame of a Chunk with these bytes, which are copied once.
[[nodiscard]] wire::Frame chunk_frame(const Sha256& object, std::uint64_t offset, ByteSpan data,
                                      const RunId& run);
/// kProtocol for an unknown type, a field out of its range, bytes missing or left over. A chunk's
/// data takes over the frame's memory.
[[nodiscard]] Result<Message> from_frame(wire::Frame frame);
/// For log lines: "OFFER", "ROUND_OPEN", ...
[[nodiscard]] std::string_view name(const Message& message);

}  // namespace strata::protocol

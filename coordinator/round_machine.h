#pragma once
// The rounds of a run as a deterministic state machine. Its state is a function of the journaled
// records alone; it asks no clock, socket or disk. Whoever drives it (server.h) brings what
// happened, asks what follows, journals that, and applies it once it is on the disk:
//
//   not begun --RunOpened--> between --RoundOpened--> open --RoundClosed--> closed
//                               ^                     | UpdateAccepted, ClientOut,   |
//                               |                     | UpdateRejected               |
//                               +------------------ RoundCommitted ------------------+
//   between, after the last round: RunClosed --> done
//
// Threads: one.
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/round_records.h"

namespace strata::coordinator {

struct MachineConfig {
  std::vector<protocol::ClientId> clients;  // of the run, in order of names
  std::uint32_t rounds = 1;
  std::uint32_t quorum = 1;     // a round with fewer updates is not closed; 0: it may have none
  std::uint32_t per_round = 0;  // clients drawn for each round; 0: all
  std::uint64_t seed = 0;       // of the draw
};

/// A client of so many rejected updates is not drawn for the rest of the run. Those of a round that
/// is tried again do not count: it was hopeless without that client.
inline constexpr std::uint32_t kRejectedMax = 5;

enum class Phase : std::uint8_t { kNotBegun, kBetween, kOpen, kClosed, kDone };

/// What an offered update is, before a byte of it is taken.
enum class Verdict : std::uint8_t {
  kNew,          // wanted
  kDuplicate,    // accepted before
  kConflict,     // another update of this client was accepted for the round
  kOut,          // this client was left out of the round
  kLate,         // the round is closed
  kNotSelected,  // the round is not this client's
  kUnknown,      // no such round yet
};

class RoundMachine {
 public:
  explicit RoundMachine(MachineConfig config);

  /// Takes a record that is on the disk. kDamaged naming record and phase when it cannot follow
  /// what came before; nothing is changed then.
  [[nodiscard]] Result<void> apply(const RoundRecord& record);

  [[nodiscard]] const MachineConfig& config() const { return config_; }
  [[nodiscard]] Phase phase() const { return phase_; }
  /// The open or closed round; between rounds the next one.
  [[nodiscard]] std::uint32_t round() const { return round_; }
  [[nodiscard]] const protocol::RunId& run() const { return opened_.run; }
  [[nodiscard]] const RunOpened& opened() const { return opened_; }
  /// Of the round at hand.
  [[nodiscard]] const std::vector<protocol::ClientId>& selected() const { return selected_; }
  [[nodiscard]] bool is_selected(const protocol::ClientId& client) const;
  [[nodiscard]] const std::map<protocol::ClientId, UpdateAccepted>& accepted() const {
    return accepted_;
  }
  [[nodiscard]] const std::map<protocol::ClientId, std::string>& out() const { return out_; }
  /// Updates of this client that were rejected, in all rounds.
  [[nodiscard]] std::uint32_t rejected(const protocol::ClientId& client) const;
  /// Clients that are not drawn any more: kRejectedMax.
  [[nodiscard]] std::vector<protocol::ClientId> barred() const;
  /// Selected and not heard of yet.
  [[nodiscard]] std::vector<protocol::ClientId> missing() const;
  [[nodiscard]] const std::vector<protocol::ClientId>& contributors() const {
    return contributors_;
  }
  [[nodiscard]] const std::vector<RoundCommitted>& committed() const { return committed_; }

  /// The model after the last committed round.
  [[nodiscard]] protocol::Head head() const;
  /// State hash of the final model, once done.
  [[nodiscard]] const Sha256& state() const { return state_; }

  [[nodiscard]] Verdict judge(const protocol::ClientId& client, std::uint32_t round,
                              const Sha256& update) const;

  /// The client's last accepted update: round and whether it was used; {0, false}: none.
  struct Last {
    std::uint32_t round = 0;
    bool used = false;
  };
  [[nodiscard]] Last last_of(const protocol::ClientId& client) const;

  /// The next round's opening, drawn from seed and round among those that are not barred. In phase
  /// kBetween, when a round is left.
  [[nodiscard]] RoundOpened next_round(const Sha256& chain) const;
  [[nodiscard]] bool rounds_left() const { return round_ <= config_.rounds; }
  /// The closing of the open round, when it may be closed now: everybody was heard of, or the
  /// deadline has passed and the quorum is there.
  [[nodiscard]] std::optional<RoundClosed> closing(bool deadline_passed) const;
  /// The open round cannot reach its quorum any more.
  [[nodiscard]] bool hopeless(bool deadline_passed) const;

 private:
  [[nodiscard]] bool follows(const RoundRecord& record) const;
  void take(const RunOpened& r);
  void take(const RoundOpened& r);
  void take(const UpdateAccepted& r);
  void take(const ClientOut& r);
  void take(const RoundClosed& r);
  void take(const RoundCommitted& r);
  void take(const RunClosed& r);
  void take(const UpdateLost& r);
  void take(const RoundReopened& r);
  void take(const UpdateRejected& r);

  MachineConfig config_;
  Phase phase_ = Phase::kNotBegun;
  RunOpened opened_;
  std::uint32_t round_ = 1;
  std::vector<protocol::ClientId> selected_;
  std::map<protocol::ClientId, UpdateAccepted> accepted_;
  std::map<protocol::ClientId, std::string> out_;
  std::vector<protocol::ClientId> contributors_;
  std::map<protocol::ClientId, std::uint32_t> rejected_;
  std::vector<protocol::ClientId> rejected_now_;  // in the round at hand
  std::vector<RoundCommitted> committed_;
  std::map<protocol::ClientId, Last> last_;
  Sha256 state_{};
};

}  // namespace strata::coordinator

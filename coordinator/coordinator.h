#pragma once
// One federation's rounds: takes updates, aggregates them, folds the result into the model, and
// keeps the chain of hashes that names its history. It owns no socket, thread or clock; the caller
// brings updates and says when a round closes. Calls per round: accept*, close. Threads: one.
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "coordinator/aggregator/aggregator.h"
#include "coordinator/aggregator/exactness.h"
#include "coordinator/updates/update_store.h"
#include "model/model.h"
#include "protocol/messages.h"
#include "tensor/team.h"

namespace strata::coordinator {

struct AggregationConfig {
  std::string method = "flora";
  std::string restart = "fresh";  // flora only: fresh | keep
  std::int64_t rounds = 3;
  std::int64_t min_clients = 1;  // a round with fewer usable updates fails
  bool measure = true;           // the exactness line
};

/// What a round came to.
struct RoundReport {
  std::uint32_t round = 0;
  Aggregate aggregate;
  Exactness exactness;
  std::vector<std::string> clients;  // whose updates were used, in order
  Sha256 packet{};
  Sha256 chain{};
};

/// Averaged factors as a change of the base: to fold them in at the end, or to export them.
[[nodiscard]] adapter::Packet as_packet(const MeanFactors& factors);

class Coordinator {
 public:
  /// kConfig for an unknown method, or a restart policy that the method has no use for. `base` is
  /// folded into from now on, by `threads` threads (which change no bit). Updates wait in `store`.
  [[nodiscard]] static Result<Coordinator> make(
      const AggregationConfig& config, model::Model base, int threads = 1,
      std::unique_ptr<UpdateStore> store = make_memory_store());

  /// Whether rounds of these clients can succeed at all: kConfig when the method cannot combine
  /// what they will send, or min_clients asks for more than there are.
  [[nodiscard]] Result<void> check_clients(std::span<const PlannedUpdate> clients) const;

  [[nodiscard]] const model::Model& model() const { return model_; }
  [[nodiscard]] std::uint32_t round() const { return round_; }  // the open round, from 1
  [[nodiscard]] const Sha256& chain() const { return chain_; }
  [[nodiscard]] protocol::Restart restart() const { return restart_; }
  /// The averaged factors that stand beside the base (control methods), or empty.
  [[nodiscard]] const MeanFactors& mean_factors() const { return mean_; }

  /// Checks an update against the model and the round and keeps it; a refusal (kIncompatibleUpdate)
  /// changes nothing. kDiskFull or kIo when the store fails.
  [[nodiscard]] Result<void> accept(protocol::Update update);
  /// Aggregates what was accepted, folds it, opens the next round. kQuorum when there are too few.
  [[nodiscard]] Result<RoundReport> close();
  /// Ends the federation: the averaged factors, if any, are folded into the base. Returns the final
  /// model.
  [[nodiscard]] model::Model finish() &&;

 private:
  Coordinator(const AggregationConfig& config, const AggregatorEntry& entry, model::Model base,
              int threads, std::unique_ptr<UpdateStore> store);
  void fold(const adapter::Packet& packet);

  AggregationConfig config_;
  const AggregatorEntry* entry_;
  protocol::Restart restart_;
  tensor::Team team_;
  model::Model model_;
  std::uint32_t round_ = 1;
  Sha256 chain_{};
  std::unique_ptr<UpdateStore> store_;
  std::unique_ptr<Aggregator> aggregator_;
  UpdateSet updates_;  // for the exactness report
  MeanFactors mean_;
};

}  // namespace strata::coordinator

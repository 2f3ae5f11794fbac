#pragma once
// One federation's rounds: takes updates, aggregates them, folds the result into the model, and
// keeps the chain of hashes that names its history. It owns no socket, thread or clock; the caller
// brings updates and says when a round closes. Calls per round: accept*, close. Threads: one.
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "coordinator/aggregator/aggregator.h"
#include "coordinator/aggregator/common_factors.h"
#include "coordinator/aggregator/exactness.h"
#include "coordinator/diagnostics.h"
#include "coordinator/merge_descent.h"
#include "coordinator/private_sum.h"
#include "coordinator/updates/kept_update.h"
#include "model/fold_rule.h"
#include "model/model.h"
#include "protocol/messages.h"
#include "tensor/team.h"

namespace strata::coordinator {

struct AggregationConfig {
  std::string method = "flora";
  std::string restart = "auto";  // flora and lte: fresh | keep; auto: as the method has it
  std::int64_t rounds = 3;
  std::int64_t min_clients = 1;        // a round with fewer usable updates fails
  std::int64_t clients_per_round = 0;  // drawn for each round; 0: all
  double deadline = 0.0;          // seconds of a round; 0: it waits for every client that was drawn
  std::string encoding = "f32";   // of updates on their way: f32 | bf16 | int8
  std::string topology = "star";  // of an mpirun job: star | mesh (client/peers.h)
  std::string exchange = "auto";  // of a mesh: gather | scatter (cli/mesh_exchange.h)
  bool overlap = false;           // merges travel while the next round is trained, on the model
                                  // before them (client/ahead_worker.h)
  double max_update_norm = 0.0;   // updates with a larger norm are refused; 0: none
  bool measure = true;            // the exactness line
  bool diagnostics = false;       // ranks of what merged, alignment of heads (diagnostics.h)
};

/// What a round came to.
struct RoundReport {
  std::uint32_t round = 0;
  Aggregate aggregate;
  Exactness exactness;
  std::vector<TensorDiagnostics> diagnostics;  // when asked for
  std::optional<MergeDescent> descent;         // measure_descent()
  std::vector<std::string> clients;            // whose updates were used, in order
  Sha256 packet{};
  Sha256 chain{};
};

using protocol::as_packet;

/// What all clients begin a round with that follows no averaged factors, from 1.
using CommonStart = std::function<Result<CommonFactors>(std::uint32_t round)>;

class Coordinator {
 public:
  /// kConfig for an unknown method, or a restart policy that the method has no use for. `base` is
  /// folded into from now on, by `threads` threads (which change no bit).
  [[nodiscard]] static Result<Coordinator> make(const AggregationConfig& config, model::Model base,
                                                int threads = 1);
  /// Says which clients there are, after check_clients(): where the method fixes shares by the
  /// plan, they are of these clients' weights.
  void expect(std::span<const PlannedUpdate> clients);

  /// Packets change the model by this rule instead of being added. Before the first round.
  void fold_by(std::shared_ptr<model::FoldRule> rule) { rule_ = std::move(rule); }
  /// Whether a model cannot be gone on with without the packets that led to it.
  [[nodiscard]] bool needs_all_packets() const { return rule_ != nullptr; }

  /// Tells of each round how what it merges goes along the gradient of this loss, where that is
  /// known and adapters change something; never in a private federation. Before the first round.
  void measure_descent(LossOfMerged loss) { loss_ = std::move(loss); }

  /// Whether rounds of these clients can succeed at all: kConfig when the method cannot combine
  /// what they will send, factors would outlive a round for which they are drawn, or min_clients
  /// asks for more than there are.
  [[nodiscard]] Result<void> check_clients(std::span<const PlannedUpdate> clients) const;

  /// Rounds come to the noisy mean of what their clients changed of the common factors, nothing is
  /// measured, and a round may close with nobody. Before the first round.
  void make_private(std::shared_ptr<PrivateSum> sum, CommonStart start);
  /// Null: rounds come to the mean as it is.
  [[nodiscard]] PrivateSum* private_sum() const { return private_.get(); }

  [[nodiscard]] const model::Model& model() const { return model_; }
  [[nodiscard]] std::uint32_t round() const { return round_; }  // the open round, from 1
  [[nodiscard]] const Sha256& chain() const { return chain_; }
  /// Of the model that the open round is trained on.
  [[nodiscard]] const Sha256& trained_on() const {
    return config_.overlap ? chain_before_ : chain_;
  }
  [[nodiscard]] protocol::Restart restart() const { return restart_; }
  /// The averaged factors that stand beside the base (control methods), or empty.
  [[nodiscard]] const MeanFactors& mean_factors() const { return mean_; }

  /// Whether an update of these tensors, trained for `round` on the model `base`, fits the open
  /// round: kIncompatibleUpdate naming client and rule.
  [[nodiscard]] Result<void> check(const protocol::ClientId& client, std::uint32_t round,
                                   const Sha256& base, const Outline& outline) const;
  /// kIncompatibleUpdate for an update of a larger norm than the job allows; kIo.
  [[nodiscard]] Result<void> check_norm(const KeptUpdate& update) const {
    return coordinator::check_norm(update, config_.max_update_norm);
  }
  /// Checks an update and keeps it in the store; a refusal (kIncompatibleUpdate) changes nothing.
  /// kDiskFull or kIo when the store fails.
  [[nodiscard]] Result<void> accept(protocol::Update update);
  /// Takes an update that is kept elsewhere, and passed check() and check_update(), for the open
  /// round.
  [[nodiscard]] Result<void> accept(SharedUpdate update);
  /// Aggregates what was accepted, folds it, opens the next round. kQuorum when there are too few.
  [[nodiscard]] Result<RoundReport> close();
  /// The same in two steps: what was accepted, which others' tensors may complete before it is
  /// folded. Once a round.
  struct Combined {
    Aggregate aggregate;
    Exactness exactness;  // of the tensors that were here
  };
  [[nodiscard]] Result<Combined> combine();
  [[nodiscard]] Result<RoundReport> fold_combined(Combined combined);
  /// Folds what another process has left of the open round, which was not committed, instead of
  /// closing it, and opens the next one.
  [[nodiscard]] RoundReport take_up(protocol::RoundChange change,
                                    std::vector<protocol::ClientId> clients);
  /// Folds a round that was closed before by another process, and opens the next one. kDamaged when
  /// the chain then is not `chain`.
  [[nodiscard]] Result<void> resume(protocol::RoundChange change, const Sha256& chain);
  /// Hash of the model as it stands (a while for a large one).
  [[nodiscard]] Sha256 state_hash() { return model_.state_hash(&team_); }
  /// After the last round: the averaged factors, if any, go into the base.
  void settle();
  /// Ends the federation: the averaged factors, if any, are folded into the base. Returns the final
  /// model.
  [[nodiscard]] model::Model finish() &&;

 private:
  [[nodiscard]] Result<void> check_restart(std::span<const PlannedUpdate> clients) const;
  [[nodiscard]] Result<CommonFactors> common_factors() const;
  [[nodiscard]] Result<Aggregate> noisy_mean();
  [[nodiscard]] Result<Aggregate> mean();
  [[nodiscard]] Result<std::optional<MergeDescent>> descent_of(const adapter::Packet& packet);
  [[nodiscard]] RoundReport fold(Aggregate aggregate);
  void change_model(const adapter::Packet& packet);
  void go_on_to(const Sha256& chain);
  Coordinator(const AggregationConfig& config, const AggregatorEntry& entry, model::Model base,
              int threads);

  AggregationConfig config_;
  const AggregatorEntry* entry_;
  Weights planned_;                           // where shares are fixed
  std::map<std::string, std::size_t> heads_;  // of each client
  std::optional<model::Model> first_;         // the model as it was, for diagnostics
  LossOfMerged loss_;                         // null: its gradient is not looked at
  protocol::Restart restart_;
  tensor::Team team_;
  model::Model model_;
  std::uint32_t round_ = 1;
  Sha256 chain_{};
  Sha256 chain_before_{};  // of the round before; at first, of the base as well
  std::unique_ptr<Aggregator> aggregator_;
  UpdateSet updates_;  // for the exactness report, and for a private sum
  MeanFactors mean_;
  std::shared_ptr<model::FoldRule> rule_;  // null: packets are added
  std::shared_ptr<PrivateSum> private_;    // null: rounds are not private
  CommonStart start_;
};

}  // namespace strata::coordinator

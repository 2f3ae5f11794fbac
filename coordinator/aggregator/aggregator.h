#pragma once
// Folds one round's client updates into one change of the model.
//   flora      exact for any ranks, scales and weights (Wang et al. 2024):
//              dW = sum_k p_k s_k B_k A_k = [s_1 B_1 ... s_K B_K] [p_1 A_1; ...; p_K A_K],
//              p_k = weight_k / sum weight
//   lte        the same over clients with several parallel heads, which stays LTE's mean over all N
//              heads when some are missing (Huh et al. 2024): with kept factors
//              W_t = W_0 + sum_n p_n s_n B_n A_n,  p_n = weight_n / sum of all planned weights,
//              a missing head's part staying as it was; with fresh ones as flora
//   fedavg     mean of B and mean of A (FedIT, Zhang et al. 2023): the control that users know,
//              biased by the covariance of factors
//   data_parallel  the mean gradient of one step, by which every party takes the optimizer's step
//   zero_pad   fedavg after padding every client to the largest rank (Cho et al. 2024 without
//              pruning)
// A stack of more rank than a layer has (many clients) is written out as one product of the layer's
// own rank, so that no packet grows beyond twice the layers that it changes.
// Calls: accumulate*, then report, once. Updates are put in client order before anything is summed,
// and tensors are read one at a time, so that arrival order and thread count change no bit and
// memory holds one tensor of all clients. Threads: one instance, one thread. Errors: an update that
// is bad in itself, or does not fit the tensors of those before it, is refused with
// kIncompatibleUpdate and leaves the fold unchanged. report fails with kQuorum when nothing was
// accepted, with kConfig when the method cannot combine what was (fedavg and unequal ranks), never
// depending on who came first, and with kIo when an update cannot be read back.
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "adapter/packet.h"
#include "base/result.h"
#include "coordinator/updates/kept_update.h"
#include "protocol/messages.h"
#include "protocol/round_change.h"
#include "tensor/team.h"

namespace strata::coordinator {

using protocol::MeanFactors;
using Weights = std::map<std::string, double>;  // by client

/// What a round came to: the packet is folded into the base by every party, and empty for the
/// control methods on adapters; the averaged factors are what clients continue from under
/// Restart::kMean, else empty.
struct Aggregate : protocol::RoundChange {
  Weights weights;  // p_k by client; sum 1, or less where weights are fixed
  /// The same of changes that are not low-rank, which are new each round: of those that came, also
  /// where the others' shares are fixed.
  Weights dense_weights = {};
};

class Aggregator {
 public:
  virtual ~Aggregator() = default;
  [[nodiscard]] virtual Result<void> accumulate(SharedUpdate update) = 0;
  [[nodiscard]] virtual std::size_t accepted() const = 0;
  [[nodiscard]] virtual Result<Aggregate> report(tensor::Team* team = nullptr) && = 0;

  /// A copy of an update that nobody has checked.
  [[nodiscard]] Result<void> accumulate(const protocol::Update& update) {
    if (auto good = check_update(update); !good) return good;
    return accumulate(keep_in_memory(update));
  }
};

/// What a client will send, known before it has trained: the rank by tensor; 0: changed as a whole.
/// `seeded`: B only, A is drawn anew each round.
struct PlannedUpdate {
  protocol::ClientId client;
  std::map<std::string, std::size_t> ranks;
  bool seeded = false;
  /// Of a low-rank change: 2 where kept factors, of which both are trained, take back the old ones.
  std::size_t terms = 1;
  std::size_t heads = 1;  // parallel ones, whose ranks stand side by side in `ranks`
  double weight = 1.0;    // as its updates will say
};

struct AggregatorEntry {
  std::string_view name;
  std::string_view help;
  bool averages_factors;  // control methods: the model is base + mean factors, and every client
                          // restarts from them
  /// What aggregation.restart "auto" stands for.
  std::string_view restart;
  /// `planned`: the weights of all clients that could take part, where each one's share is fixed by
  /// the plan, whatever its update says; empty: shares are of those that do.
  std::unique_ptr<Aggregator> (*make)(const Weights& planned);
  /// With kept factors shares are fixed by the plan.
  bool fixed_shares;
  /// kConfig naming clients and ranks when report() could not combine such updates, so that it is
  /// known before anybody trains. Null: any updates combine.
  Result<void> (*check)(std::span<const PlannedUpdate> clients);
  /// Updates tell gradients; their mean is a step for the optimizer, not a change.
  bool gradients = false;
};

[[nodiscard]] std::span<const AggregatorEntry> aggregators();
/// kConfig with the nearest name when unknown.
[[nodiscard]] Result<const AggregatorEntry*> find_aggregator(std::string_view name);

/// A tensor's changes by the clients that change it, in client order, in memory.
struct TensorChanges {
  struct Of {
    protocol::ClientId client;
    std::shared_ptr<const adapter::TensorDelta> delta;
  };
  std::string name;
  std::size_t d_out = 0;
  std::size_t d_in = 0;
  std::vector<Of> clients;
  /// No client's change has a low-rank term.
  [[nodiscard]] bool all_dense() const;
};

/// Updates of one round by client name: agreeing in tensor shapes, one per client. The common part
/// of all aggregators.
class UpdateSet {
 public:
  /// Takes an update that check_update() passed.
  [[nodiscard]] Result<void> add(SharedUpdate update);
  [[nodiscard]] Result<void> add(const protocol::Update& update) {
    if (auto good = check_update(update); !good) return good;
    return add(keep_in_memory(update));
  }
  [[nodiscard]] const std::map<protocol::ClientId, SharedUpdate>& updates() const {
    return updates_;
  }
  [[nodiscard]] bool empty() const { return updates_.empty(); }
  /// p_k in client order: of `planned`, where that is not empty and names all of them; else of the
  /// updates' own weights.
  [[nodiscard]] Weights normalised_weights(const Weights& planned = {}) const;
  /// Names and shapes of all tensors any client changed.
  [[nodiscard]] const adapter::TensorShapes& tensors() const { return tensors_; }
  /// One of tensors(), read from all clients. May be called from several threads.
  [[nodiscard]] Result<TensorChanges> changes(const std::string& name) const;

 private:
  std::map<protocol::ClientId, SharedUpdate> updates_;
  adapter::TensorShapes tensors_;
};

/// Exact weighted stack of one tensor over clients in client order; the weights are used as given
/// (any sign). Dense when any client's change is.
[[nodiscard]] adapter::PacketTensor stack_tensor(const TensorChanges& changes,
                                                 const std::map<std::string, double>& weights);

/// The same change at no more rank than min(d_out, d_in): a larger stack becomes its product,
/// rounded to float once.
[[nodiscard]] adapter::PacketTensor condense(adapter::PacketTensor tensor);

}  // namespace strata::coordinator

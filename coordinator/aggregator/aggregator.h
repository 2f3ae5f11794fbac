#pragma once
// Folds one round's client updates into one change of the model.
//   flora      exact for any ranks, scales and weights (Wang et al. 2024):
//              dW = sum_k p_k s_k B_k A_k = [s_1 B_1 ... s_K B_K] [p_1 A_1; ...; p_K A_K],
//              p_k = weight_k / sum weight
//   fedavg     mean of B and mean of A (FedIT, Zhang et al. 2023): the control that users know,
//              biased by the covariance of factors
//   zero_pad   fedavg after padding every client to the largest rank (Cho et al. 2024 without
//              pruning)
// Calls: accumulate*, then report, once. Updates are put in client order before anything is summed,
// so that arrival order and thread count change no bit. Threads: one instance, one thread. An
// update given by reference is copied; a shared one is kept. Errors: an update that is bad in
// itself, or does not fit the tensors of those before it, is refused with kIncompatibleUpdate and
// leaves the fold unchanged. report fails with kQuorum when nothing was accepted, and with kConfig
// when the method cannot combine what was (fedavg and unequal ranks): never depending on who came
// first.
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "adapter/packet.h"
#include "base/result.h"
#include "protocol/messages.h"

namespace strata::coordinator {

/// Updates are large and read by both the fold and its report, so they are kept once.
using SharedUpdate = std::shared_ptr<const protocol::Update>;

/// One tensor's averaged factors (control methods): scale folded into B, rank the largest client's.
using MeanFactors = std::map<std::string, adapter::LowRank, std::less<>>;

/// What a round came to.
struct Aggregate {
  adapter::Packet
      packet;  // folded into the base by every party; empty for the control methods on adapters
  MeanFactors mean_factors;  // what clients continue from under Restart::kMean; else empty
  std::map<std::string, double> weights;  // p_k by client, sum 1
};

class Aggregator {
 public:
  virtual ~Aggregator() = default;
  [[nodiscard]] virtual Result<void> accumulate(SharedUpdate update) = 0;
  [[nodiscard]] virtual std::size_t accepted() const = 0;
  [[nodiscard]] virtual Result<Aggregate> report() && = 0;

  [[nodiscard]] Result<void> accumulate(const protocol::Update& update) {
    return accumulate(std::make_shared<const protocol::Update>(update));
  }
};

/// What a client will send, known before it has trained: the rank by tensor; 0: changed as a whole.
struct PlannedUpdate {
  protocol::ClientId client;
  std::map<std::string, std::size_t> ranks;
};

struct AggregatorEntry {
  std::string_view name;
  std::string_view help;
  bool averages_factors;  // control methods: the model is base + mean factors, and every client
                          // restarts from them
  std::unique_ptr<Aggregator> (*make)();
  /// kConfig naming clients and ranks when report() could not combine such updates, so that it is
  /// known before anybody trains. Null: any updates combine.
  Result<void> (*check)(std::span<const PlannedUpdate> clients);
};

[[nodiscard]] std::span<const AggregatorEntry> aggregators();
/// kConfig with the nearest name when unknown.
[[nodiscard]] Result<const AggregatorEntry*> find_aggregator(std::string_view name);

/// Updates of one round by client name, checked: finite, well-shaped, agreeing in tensor shapes,
/// one per client, weight > 0. The common part of all aggregators.
class UpdateSet {
 public:
  [[nodiscard]] Result<void> add(SharedUpdate update);
  [[nodiscard]] Result<void> add(const protocol::Update& update) {
    return add(std::make_shared<const protocol::Update>(update));
  }
  [[nodiscard]] const std::map<protocol::ClientId, SharedUpdate>& updates() const {
    return updates_;
  }
  [[nodiscard]] bool empty() const { return updates_.empty(); }
  /// p_k in client order; sum 1.
  [[nodiscard]] std::map<std::string, double> normalised_weights() const;
  /// Names and shapes of all tensors any client changed.
  [[nodiscard]] const adapter::TensorShapes& tensors() const { return tensors_; }

 private:
  std::map<protocol::ClientId, SharedUpdate> updates_;
  adapter::TensorShapes tensors_;
};

/// Exact weighted stack of one tensor over clients in client order; the weights are used as given
/// (any sign). Dense when any client's change is. Uses one tensor of the set at a time.
[[nodiscard]] adapter::PacketTensor stack_tensor(const std::string& name, const UpdateSet& set,
                                                 const std::map<std::string, double>& weights);

}  // namespace strata::coordinator

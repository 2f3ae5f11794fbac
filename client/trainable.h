#pragma once
// What a client trains: adapters beside a shared base, or a copy of the whole model. The training
// step sees only parameters, a gradient request and a delta, and does not ask which.
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "adapter/adapter_set.h"
#include "model/decoder.h"
#include "protocol/messages.h"

namespace strata::client {

class Trainable {
 public:
  virtual ~Trainable() = default;
  /// Starts a round on `base` (borrowed until the next call).
  virtual void begin_round(const model::Model& base) = 0;
  /// The model a decoder must run on this round: the base, or this client's copy of it.
  [[nodiscard]] virtual const model::Model& model() const = 0;
  /// The round's delta has been taken: memory that only a round needs is given back.
  virtual void end_round() = 0;
  [[nodiscard]] virtual const adapter::AdapterSet* adapters() const = 0;  // null for full training
  [[nodiscard]] virtual std::vector<adapter::ParamRef> params() = 0;
  /// Those of them that outlive a round: the others start each round as the base has them.
  [[nodiscard]] virtual std::vector<adapter::ParamRef> kept_params() = 0;
  /// After parameters changed, before the next pass.
  virtual void prepare(tensor::Team& team) = 0;
  /// Fills in what the gradients go to.
  virtual void aim(model::TrainRequest& request) = 0;
  /// The change against the base.
  [[nodiscard]] virtual adapter::DeltaTerms delta() const = 0;
  /// Between two steps of a round: what the adapters came to goes into this client's own copy of
  /// the model, on which training goes on; by kKeep with the same factors, each head subtracting
  /// its own (aggregation of heads as LTE does it), by kFresh with new ones from `stream`. The
  /// delta tells everything as before. Needs Merging::kOwnCopy; nothing for full training.
  virtual void merge(protocol::Restart policy, const sys::Stream& stream, tensor::Team& team) = 0;
  /// Goes on after a round by kKeep or kMean, whose averaged factors are `mean`; a fresh start is
  /// another object. Where merges come late, the next base is the one before that round's merge.
  [[nodiscard]] virtual Result<void> restart(
      protocol::Restart policy,
      const std::map<std::string, adapter::LowRank, std::less<>>& mean) = 0;
  /// Factors to start from (a PEFT adapter's, by module). kConfig for full training.
  [[nodiscard]] virtual Result<void> load(
      const std::map<std::string, adapter::Factors>& factors) = 0;
  /// Largest rank, 0 for full training.
  [[nodiscard]] virtual std::size_t rank() const = 0;

  /// Where merges come late: how the last round changed what is trained beside the adapters, in
  /// storage order, by name. The next base does not have it yet; the next round begins with it.
  using Carried = std::map<std::string, std::vector<float>>;
  [[nodiscard]] virtual Carried carried() const { return {}; }
  /// False for values of other tensors.
  [[nodiscard]] virtual bool carry(const Carried& values) { return values.empty(); }
};

/// Whether heads are merged between rounds, which needs a copy of the model to merge them into; or
/// nothing is changed at all, and the delta is the gradient of all parameters in the last step.
enum class Merging { kAtRounds, kOwnCopy, kGradients };

/// The model's parameters that config.modules_to_save names, in storage order. kConfig when a name
/// matches none, or one that an adapter of `set` changes.
[[nodiscard]] Result<std::vector<std::size_t>> saved_parameters(
    const adapter::AdapterConfig& config, const model::Model& base, const adapter::AdapterSet& set);

/// Adapters of `config` on the model's linear layers; "full" for method "full". `stream` draws this
/// client's factors (absent: zeros, to see what they are of), shared out over `team`; `shared` what
/// they have in common with the other clients' in `round`. `late`: every round begins on the model
/// as it was before the last round's merge (kept factors only).
[[nodiscard]] Result<std::unique_ptr<Trainable>> make_trainable(
    const adapter::AdapterConfig& config, const model::Model& base,
    const std::optional<sys::Stream>& stream, const sys::Stream& shared, std::uint32_t round = 1,
    Merging merging = Merging::kAtRounds, bool late = false, tensor::Team* team = nullptr);

/// The model's linear layers as adapters name them.
[[nodiscard]] std::vector<adapter::LinearShape> linear_shapes(const model::Model& model);

}  // namespace strata::client

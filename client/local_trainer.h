#pragma once
// One client's training: its own records, factors and optimizer; what a round does to them. Between
// rounds a client keeps its records and, unless it starts afresh anyway, its factors and moments;
// memory of the size of a batch is the workspace's. So a thousand idle clients cost little.
// Threads: one call at a time per trainer; different trainers in different threads share only the
// (read-only) base.
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "client/planted_units.h"
#include "client/private_gradient.h"
#include "client/trainable.h"
#include "client/training_config.h"
#include "observe/observer.h"
#include "protocol/messages.h"
#include "sys/clock.h"
#include "text/example.h"

namespace strata::client {

/// What one client is made of.
struct ClientSpec {
  std::string name;
  adapter::AdapterConfig adapter;
  std::map<std::string, adapter::Factors> initial;  // adapter.init, by module; empty: fresh factors
  std::vector<text::Example> examples;
  double weight = 0.0;  // relative weight; 0: number of trained tokens, or 1 of a private client
  /// Private training: noisy steps, and nothing told that depends on the records.
  std::optional<DpSgdConfig> privacy = {};
  /// The coordinator clips the update and adds the noise: plain steps, of which nothing is told,
  /// from factors that all clients begin with; a round whose training fails changes nothing. Not
  /// together with `privacy`.
  bool central = false;
  /// Whom each example is of, for units larger than an example; empty: each stands for itself.
  std::vector<std::string> people = {};
  /// A round is one step, of which the gradient of all parameters is told instead of a change. Not
  /// together with privacy.
  bool gradients = false;
  /// Every round begins on the model as it was before the last round's merge, whose own part the
  /// client carries on (overlapped merges); its factors are kept. Not together with privacy.
  bool late = false;
  /// Of an audit; borrowed, null in every run.
  PlantedUnits* planted = nullptr;
};

/// What a round asks of a client.
struct RoundTask {
  std::uint32_t round = 0;  // from 1
  std::uint32_t rounds = 1;
  Sha256 base{};  // chain hash of the model trained on
  /// How the next round starts: with kFresh nothing trained is kept once the update is made.
  protocol::Restart restart = protocol::Restart::kKeep;
};

struct RoundStats {
  std::int64_t steps = 0;
  std::uint64_t tokens = 0;  // through the model, trained or not
  std::uint64_t trained_tokens = 0;
  double first_loss = 0.0;  // mean over the round's first and last quarter of steps
  double last_loss = 0.0;
  double seconds = 0.0;
};

struct RoundResult {
  protocol::Update update;
  RoundStats stats;
};

/// Outside things a round uses.
struct RoundTools {
  const sys::Clock& clock;
  observe::Observer& observer;
  model::Workspace& workspace;  // of training.threads threads; serves one client after the other
  std::function<bool()> stopped = [] { return false; };
};

class LocalTrainer {
 public:
  /// kData when no record has a trained token; kConfig when the adapter does not fit the model.
  [[nodiscard]] static Result<LocalTrainer> make(ClientSpec spec, const TrainingConfig& training,
                                                 const model::Model& base, std::uint32_t rounds);
  LocalTrainer(LocalTrainer&&) noexcept;
  LocalTrainer& operator=(LocalTrainer&&) noexcept;
  ~LocalTrainer();

  [[nodiscard]] const std::string& name() const;
  [[nodiscard]] std::size_t rank() const;
  /// Rank of each tensor its adapters change; empty for full training.
  [[nodiscard]] const std::map<std::string, std::size_t>& ranks() const;
  [[nodiscard]] std::span<const text::Example> examples() const;
  /// The first of them, as many as a step has: the same number for each head. Not of a private
  /// client.
  [[nodiscard]] std::span<const text::Example> first_step() const;
  /// Optimizer steps of one round, and of the whole run (max_steps applied).
  [[nodiscard]] std::int64_t steps_per_round() const;

  /// Trains for one round. kNumeric when the loss or a gradient stops being finite; kInterrupted
  /// when stopped.
  [[nodiscard]] Result<RoundResult> run_round(const model::Model& base, const RoundTask& task,
                                              RoundTools& tools);
  /// After the round was folded: how the next one starts.
  [[nodiscard]] Result<void> restart(
      protocol::Restart policy, std::uint32_t round,
      const std::map<std::string, adapter::LowRank, std::less<>>& mean);
  /// The same before `round`, for a client that may have missed rounds: goes on from its own last
  /// round when the policy says so and that round's update is part of the base (`used_before`),
  /// else afresh. `base` is what the averaged factors fit.
  [[nodiscard]] Result<void> begin(protocol::Restart policy, std::uint32_t round, bool used_before,
                                   const std::map<std::string, adapter::LowRank, std::less<>>& mean,
                                   const model::Model& base);
  /// Everything that rounds have changed, but not what a fresh start draws anew.
  [[nodiscard]] Bytes save() const;
  /// Goes on from there; an empty state is that before the first round. kDamaged for bytes that are
  /// no state of such a client.
  [[nodiscard]] Result<void> load(ByteSpan state, const model::Model& base);
  [[nodiscard]] const adapter::AdapterConfig& adapter_config() const;
  /// Units that a private client draws from; examples, unless `people` were given.
  [[nodiscard]] std::size_t units() const;
  /// Values that it trains, all tensors together; 0 for full training.
  [[nodiscard]] std::size_t trained_values() const;
  /// Bytes this client keeps between rounds, apart from names and bookkeeping.
  [[nodiscard]] std::size_t idle_bytes() const;

 private:
  struct Impl;
  explicit LocalTrainer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace strata::client

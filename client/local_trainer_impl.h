#pragma once
// The inside of LocalTrainer, shared by its own files only.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "adapter/seeded_factors.h"
#include "client/local_trainer.h"
#include "client/private_step.h"
#include "client/schedule/schedule.h"
#include "client/split_optimizer.h"
#include "protocol/round_change.h"

namespace strata::client {

struct LocalTrainer::Impl {
  ClientSpec spec;
  TrainingConfig training;
  std::unique_ptr<Trainable> trainable;  // null while nothing has been trained since fresh_since
  std::size_t rank = 0;
  std::map<std::string, std::size_t> ranks;
  std::uint32_t fresh_since = 0;  // the round after which its factors were, or will be, drawn
  std::unique_ptr<SplitOptimizer> optimizer;
  Schedule schedule;
  sys::Stream stream;  // this client's draws
  std::int64_t steps_per_round = 0;
  std::int64_t steps_total = 0;
  std::int64_t step = 0;  // optimizer steps done in the run
  std::int64_t restarted_at = 0;
  std::vector<std::size_t> order;  // of the running epoch
  std::size_t cursor = 0;
  std::uint32_t epoch = 0;
  Units units;             // of a private client
  double clip_norm = 0.0;  // of adaptive clipping, after the last step; 0: as configured
  std::size_t values = 0;
  // Late merges: the factors as they were when the last round began, from the second round on.
  std::vector<std::vector<float>> began_with;

  Impl(ClientSpec s, const TrainingConfig& t, std::unique_ptr<SplitOptimizer> o,
       const Schedule& sch)
      : spec(std::move(s)),
        training(t),
        optimizer(std::move(o)),
        schedule(sch),
        stream(sys::Stream(static_cast<std::uint64_t>(t.seed))
                   .at({.client = sys::name_hash(spec.name), .purpose = "client"})) {}

  [[nodiscard]] std::size_t records_per_step() const {
    return static_cast<std::size_t>(training.batch_size * training.gradient_accumulation);
  }

  // The next step's records. An epoch's last step takes what is left; epochs do not mix within a
  // step.
  std::vector<std::size_t> next_records() {
    if (cursor == order.size()) draw_order();
    const std::size_t n = std::min(records_per_step(), order.size() - cursor);
    std::vector<std::size_t> out(order.begin() + static_cast<std::ptrdiff_t>(cursor),
                                 order.begin() + static_cast<std::ptrdiff_t>(cursor + n));
    cursor += n;
    return out;
  }

  // The next epoch's order of records.
  void draw_order() {
    const std::size_t heads = static_cast<std::size_t>(spec.adapter.heads);
    if (training.shuffle) {
      order = stream.at({.step = epoch, .purpose = "shuffle"}).permutation(spec.examples.size());
    } else {
      order.resize(spec.examples.size());
      std::iota(order.begin(), order.end(), std::size_t{0});
    }
    order.resize(order.size() / heads * heads);  // those left over have another chance next time
    cursor = 0;
    ++epoch;
  }

  [[nodiscard]] std::int64_t merge_every() const {
    return static_cast<std::int64_t>(training.merge_every.value_or(0.0));
  }
  // After a step that is not the round's last: whether the heads merge.
  [[nodiscard]] bool merges_after(std::int64_t done, std::int64_t planned) const {
    const std::int64_t every = merge_every();
    return every > 0 && done % every == 0 && done < planned;
  }
  void merge(const RoundTask& task, RoundTools& tools, std::int64_t done);
  void restart_moments();
  Result<void> go_on(protocol::Restart policy, const protocol::MeanFactors& mean);

  enum class Factors { kDrawn, kZero };
  Result<void> ensure_trainable(const model::Model& base, Factors factors = Factors::kDrawn,
                                tensor::Team* team = nullptr);
  Result<void> check_private();
  Result<void> run_steps(const RoundTask& task, RoundTools& tools, RoundStats& stats);
  Result<void> run_private_steps(const RoundTask& task, RoundTools& tools, RoundStats& stats);
  Result<void> run_hidden_steps(const RoundTask& task, RoundTools& tools, RoundStats& stats);
  Result<void> run_central_steps(const RoundTask& task, RoundTools& tools, RoundStats& stats);
  Result<bool> run_untold_steps(const RoundTask& task, RoundTools& tools);
  [[nodiscard]] std::vector<float> trained_now() const;
  [[nodiscard]] Result<std::unique_ptr<noise::NoiseSupply>> noise_supply(std::uint32_t round) const;
};

}  // namespace strata::client

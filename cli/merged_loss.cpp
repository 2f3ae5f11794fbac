#include "cli/merged_loss.h"

#include <algorithm>

#include "client/loss_gradient.h"

namespace strata::cli {
namespace {

using coordinator::MergedLoss;
using coordinator::MergePoint;

class Loss {
 public:
  Loss(const Job& job, std::span<const client::LocalTrainer> trainers,
       std::span<const text::Example> held_out, int threads, std::function<bool()> stopped)
      : training_(job.training),
        begins_beside_(!job.adapter.init.empty()),
        trainers_(trainers),
        threads_(threads),
        stopped_(std::move(stopped)) {
    const auto each =
        static_cast<std::size_t>(job.training.batch_size * job.training.gradient_accumulation);
    held_out_ = held_out.first(std::min(held_out.size(), each * job.clients.size()));
  }

  Result<std::optional<MergedLoss>> operator()(const MergePoint& at) const {
    if (begins_beside_ && at.round == 1) return std::optional<MergedLoss>();
    const auto trainers = trainers_of(at);
    if (trainers.empty() && held_out_.empty()) return std::optional<MergedLoss>();
    MergedLoss out{.records_of = trainers.empty() ? "held_out" : "clients",
                   .gradients = model::FullGradients::zeros(at.model, at.tensors)};
    model::Workspace workspace(threads_);
    const auto add = [&](std::span<const text::Example> examples, std::size_t heads, double share) {
      out.records += examples.size();
      out.loss += share * client::add_loss_gradient(at.model, examples, heads, share, training_,
                                                    workspace, out.gradients);
    };
    if (trainers.empty()) add(held_out_, 1, 1.0);
    for (const auto* trainer : trainers) {
      if (stopped_()) return fail({.code = ErrorCode::kInterrupted, .what = "stopped by a signal"});
      add(trainer->first_step(), static_cast<std::size_t>(trainer->adapter_config().heads),
          at.shares.at(trainer->name()));
    }
    return std::optional(std::move(out));
  }

 private:
  // Of the clients that are merged; none when one of them is elsewhere.
  [[nodiscard]] std::vector<const client::LocalTrainer*> trainers_of(const MergePoint& at) const {
    std::vector<const client::LocalTrainer*> out;
    for (const auto& trainer : trainers_) {
      if (at.shares.contains(trainer.name())) out.push_back(&trainer);
    }
    if (out.size() != at.shares.size()) out.clear();
    return out;
  }

  client::TrainingConfig training_;
  bool begins_beside_;
  std::span<const client::LocalTrainer> trainers_;
  std::span<const text::Example> held_out_;
  int threads_;
  std::function<bool()> stopped_;
};

}  // namespace

coordinator::LossOfMerged loss_of_merged(const Job& job,
                                         std::span<const client::LocalTrainer> trainers,
                                         std::span<const text::Example> held_out, int threads,
                                         std::function<bool()> stopped) {
  if (!job.aggregation.diagnostics || job.privacy.on()) return nullptr;
  return Loss(job, trainers, held_out, threads, std::move(stopped));
}

}  // namespace strata::cli

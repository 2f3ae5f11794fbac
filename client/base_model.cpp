#include "client/base_model.h"

#include <optional>
#include <utility>

#include "formats/safetensors.h"
#include "model/fold.h"

namespace strata::client {
namespace {

class OwnBase final : public BaseModel {
 public:
  OwnBase(model::Model model, const sys::Disk& disk, int threads,
          std::unique_ptr<model::FoldRule> rule)
      : disk_(disk), team_(threads), model_(std::move(model)), rule_(std::move(rule)) {
    head_.chain = model_.state_hash(&team_);
  }
  const model::Model& model() const override { return model_; }
  protocol::Head head() const override { return head_; }
  const protocol::MeanFactors& mean_factors() const override { return mean_; }

  Result<void> fold(const protocol::Head& next, ByteSpan bytes) override {
    if (next.round <= head_.round) return {};
    check(next.round == head_.round + 1, "rounds are folded one after the other");
    auto change = protocol::RoundChange::parse(bytes, model::tensor_shapes(model_));
    if (!change) return fail(std::move(change).error());
    const Sha256 reached = adapter::chain_hash(head_.chain, next.round, change->hash());
    if (reached != next.chain) {
      return fail({.code = ErrorCode::kProtocol,
                   .what = "leads to chain hash " + hex(reached).substr(0, 12),
                   .where = "result of round " + std::to_string(next.round),
                   .rule = "the coordinator announced " + hex(next.chain).substr(0, 12)});
    }
    state_.reset();
    if (rule_) {
      rule_->fold(model_, change->packet, next.round, &team_);
    } else {
      model::fold(model_, change->packet, &team_);
    }
    mean_ = std::move(change->mean_factors);
    head_ = next;
    return {};
  }

  Result<void> take_snapshot(const protocol::Head& head,
                             const std::filesystem::path& path) override {
    if (head.round <= head_.round) return {};
    if (rule_) {
      return fail({.code = ErrorCode::kProtocol,
                   .what = "a snapshot came instead of rounds",
                   .rule = "what the rule remembers is made of all of them"});
    }
    auto file = formats::SafetensorsFile::open(disk_, path);
    if (!file) return fail(std::move(file).error());
    state_.reset();
    if (auto loaded = model::load_changed(model_, *file); !loaded) return loaded;
    mean_.clear();
    head_ = head;
    return {};
  }

  void settle() override {
    if (mean_.empty()) return;
    state_.reset();
    model::fold(model_, protocol::as_packet(mean_), &team_);
    mean_.clear();
  }
  Sha256 state_hash() override {
    if (!state_) state_ = model_.state_hash(&team_);
    return *state_;
  }

 private:
  const sys::Disk& disk_;
  tensor::Team team_;
  model::Model model_;
  std::unique_ptr<model::FoldRule> rule_;
  protocol::Head head_;
  protocol::MeanFactors mean_;
  std::optional<Sha256> state_;  // of the model as it is
};

}  // namespace

void BaseModel::release() {
  check(leases_ > 0, "a lease is given back once");
  if (--leases_ > 0) return;
  for (const auto& task : std::exchange(waiting_, {})) task();
}

void BaseModel::when_free(std::function<void()> task) {
  if (leases_ == 0) {
    task();
  } else {
    waiting_.push_back(std::move(task));
  }
}

std::unique_ptr<BaseModel> own_base(model::Model model, const sys::Disk& disk, int threads,
                                    std::unique_ptr<model::FoldRule> rule) {
  return std::make_unique<OwnBase>(std::move(model), disk, threads, std::move(rule));
}

}  // namespace strata::client

#include "client/trainable.h"

#include <algorithm>

namespace strata::client {
namespace {

using adapter::LowRank;
using tensor::Matrix;

// The first `rank` rank-one terms of an averaged pair, scale taken out of B again: what a client of
// that rank continues from.
adapter::Factors truncated(const LowRank& mean, std::size_t rank, double scale) {
  adapter::Factors out{Matrix(mean.b.rows(), rank), Matrix(rank, mean.a.cols())};
  const std::size_t shared = std::min(rank, mean.a.rows());
  for (std::size_t i = 0; i < mean.b.rows(); ++i) {
    for (std::size_t j = 0; j < shared; ++j)
      out.b(i, j) = static_cast<float>(static_cast<double>(mean.b(i, j)) / scale);
  }
  for (std::size_t j = 0; j < shared; ++j) {
    std::copy_n(mean.a.data() + j * mean.a.cols(), mean.a.cols(), out.a.data() + j * mean.a.cols());
  }
  return out;
}

class AdapterTrainable final : public Trainable {
 public:
  explicit AdapterTrainable(adapter::AdapterSet set, std::size_t linears)
      : set_(std::move(set)), linears_(linears) {}

  void begin_round(const model::Model& base) override { base_ = &base; }
  const model::Model& model() const override { return *base_; }
  const adapter::AdapterSet* adapters() const override { return &set_; }
  std::vector<adapter::ParamRef> params() override { return set_.params(); }
  void prepare() override { set_.prepare(base_->compute()); }
  void aim(model::TrainRequest& request) override { request.adapters = &set_; }
  adapter::DeltaTerms delta() const override { return set_.delta(); }
  std::size_t rank() const override { return set_.max_rank(); }
  Result<void> load(const std::map<std::string, adapter::Factors>& factors) override {
    return set_.load(factors);
  }

  Result<void> restart(protocol::Restart policy,
                       const std::map<std::string, LowRank, std::less<>>& mean) override {
    if (policy == protocol::Restart::kMean) return restart_from_mean(mean);
    set_.anchor();
    return {};
  }

 private:
  Result<void> restart_from_mean(const std::map<std::string, LowRank, std::less<>>& mean) {
    std::map<std::string, adapter::Factors> factors;
    for (std::size_t i = 0; i < linears_; ++i) {
      const adapter::Adapter* own = set_.at(i);
      if (own == nullptr) continue;
      const auto found = mean.find(own->shape().module + ".weight");
      if (found == mean.end()) {
        return fail({.code = ErrorCode::kIncompatibleUpdate,
                     .what = "no averaged factors",
                     .where = own->shape().module});
      }
      factors.emplace(own->shape().module, truncated(found->second, own->rank(), own->scale()));
    }
    return set_.load(factors);
  }

  adapter::AdapterSet set_;
  std::size_t linears_;
  const model::Model* base_ = nullptr;
};

class FullTrainable final : public Trainable {
 public:
  void begin_round(const model::Model& base) override {
    base_ = &base;
    copy_ = base;
    for (auto& parameter : copy_->parameters()) (void)parameter.master();
    gradients_ = model::FullGradients::zeros(*copy_);
  }
  const model::Model& model() const override { return *copy_; }
  const adapter::AdapterSet* adapters() const override { return nullptr; }
  std::vector<adapter::ParamRef> params() override {
    std::vector<adapter::ParamRef> out;
    for (std::size_t i = 0; i < copy_->parameters().size(); ++i) {
      auto& parameter = copy_->parameters()[i];
      // Weight decay acts on matrices only, not on norms and biases.
      out.push_back({.name = parameter.name(),
                     .role = adapter::ParamRole::kBase,
                     .value = parameter.master(),
                     .grad = gradients_.values[i],
                     .lr_multiplier = 1.0f,
                     .decay = !parameter.is_vector()});
    }
    return out;
  }
  void prepare() override {
    for (auto& parameter : copy_->parameters()) parameter.refresh();
  }
  void aim(model::TrainRequest& request) override { request.full = &gradients_; }
  std::size_t rank() const override { return 0; }
  Result<void> load(const std::map<std::string, adapter::Factors>&) override {
    return fail({.code = ErrorCode::kConfig,
                 .what = "is set for full training",
                 .where = "adapter.init",
                 .rule = "an initial adapter needs an adapter method"});
  }

  adapter::DeltaTerms delta() const override {
    adapter::DeltaTerms out;
    for (std::size_t i = 0; i < copy_->parameters().size(); ++i) {
      const auto& now = copy_->parameters()[i];
      std::vector<float> after(now.size()), before(now.size());
      now.copy_values(after);
      base_->parameters()[i].copy_values(before);
      Matrix change(now.d_out(), now.d_in());
      for (std::size_t r = 0; r < now.rows(); ++r) {
        for (std::size_t c = 0; c < now.cols(); ++c) {
          const float difference = after[r * now.cols() + c] - before[r * now.cols() + c];
          (now.transposed() ? change(c, r) : change(r, c)) = difference;
        }
      }
      adapter::TensorDelta tensor{now.d_out(), now.d_in(), {}};
      tensor.terms.emplace_back(adapter::Dense{std::move(change)});
      out.emplace(now.name(), std::move(tensor));
    }
    return out;
  }

  Result<void> restart(protocol::Restart,
                       const std::map<std::string, LowRank, std::less<>>&) override {
    return {};  // every round starts from the merged base
  }

 private:
  const model::Model* base_ = nullptr;
  std::optional<model::Model> copy_;
  model::FullGradients gradients_;
};

}  // namespace

std::vector<adapter::LinearShape> linear_shapes(const model::Model& model) {
  std::vector<adapter::LinearShape> out;
  for (const auto& site : model.linears()) out.push_back({site.module, site.d_out, site.d_in});
  return out;
}

Result<std::unique_ptr<Trainable>> make_trainable(const adapter::AdapterConfig& config,
                                                  const model::Model& base,
                                                  const sys::Stream& stream,
                                                  const sys::Stream& shared, std::uint32_t round) {
  if (config.method == "full") return std::make_unique<FullTrainable>();
  const auto linears = linear_shapes(base);
  auto set = adapter::AdapterSet::make(config, linears, shared, round);
  if (!set) return fail(std::move(set).error());
  set->reset(stream);
  return std::make_unique<AdapterTrainable>(std::move(*set), linears.size());
}

}  // namespace strata::client

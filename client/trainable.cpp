#include "client/trainable.h"

#include <algorithm>
#include <set>

#include "model/fold.h"

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

// Values in storage order as a dense delta, in the mathematical orientation.
adapter::TensorDelta dense_delta(const model::Parameter& parameter, std::span<const float> values) {
  Matrix out(parameter.d_out(), parameter.d_in());
  for (std::size_t r = 0; r < parameter.rows(); ++r) {
    for (std::size_t c = 0; c < parameter.cols(); ++c)
      (parameter.transposed() ? out(c, r) : out(r, c)) = values[r * parameter.cols() + c];
  }
  adapter::TensorDelta delta{parameter.d_out(), parameter.d_in(), {}};
  delta.terms.emplace_back(adapter::Dense{std::move(out)});
  return delta;
}

std::vector<float> values_of(const model::Parameter& parameter) {
  std::vector<float> out(parameter.size());
  parameter.copy_values(out);
  return out;
}

// What a parameter became against what it was.
std::vector<float> change_of(const model::Parameter& now, const std::vector<float>& was) {
  std::vector<float> out = values_of(now);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] -= was[i];
  return out;
}

adapter::TensorDelta dense_change(const model::Parameter& now, const model::Parameter& was) {
  return dense_delta(now, change_of(now, values_of(was)));
}

// Weight decay acts on matrices only, not on norms and biases.
adapter::ParamRef reference(model::Parameter& parameter, std::span<float> grad) {
  return {.name = parameter.name(),
          .role = adapter::ParamRole::kBase,
          .value = parameter.master(),
          .grad = grad,
          .lr_multiplier = 1.0f,
          .decay = !parameter.is_vector()};
}

class AdapterTrainable final : public Trainable {
 public:
  AdapterTrainable(adapter::AdapterSet set, std::size_t linears, std::vector<std::size_t> saved,
                   Merging merging, bool late)
      : set_(std::move(set)),
        linears_(linears),
        saved_(std::move(saved)),
        copies_(!saved_.empty() || merging == Merging::kOwnCopy),
        late_(late) {}

  void begin_round(const model::Model& base) override {
    base_ = &base;
    set_.begin();
    if (!copies_) return;
    copy_ = base;
    for (const std::size_t i : saved_) begin_saved(copy_->parameters()[i]);
    gradients_ = model::FullGradients::zeros(*copy_, saved_);
  }
  const model::Model& model() const override { return copy_ ? *copy_ : *base_; }
  const adapter::AdapterSet* adapters() const override { return &set_; }
  std::vector<adapter::ParamRef> params() override {
    auto out = set_.params();
    if (!copy_) return out;
    for (const std::size_t i : saved_)
      out.push_back(reference(copy_->parameters()[i], gradients_.values[i]));
    return out;
  }
  std::vector<adapter::ParamRef> kept_params() override { return set_.params(); }
  void prepare(tensor::Team& team) override {
    set_.prepare(base_->compute(), &team);
    team.for_tasks(saved_.size(),
                   [&](std::size_t i, int) { copy_->parameters()[saved_[i]].refresh(); });
  }
  void aim(model::TrainRequest& request) override {
    request.adapters = &set_;
    if (!saved_.empty()) request.full = &gradients_;
  }
  adapter::DeltaTerms delta() const override {
    auto out = set_.delta();
    for (const std::size_t i : saved_) {
      const auto& now = copy_->parameters()[i];
      out.emplace(now.name(), late_ ? dense_delta(now, change_of(now, began_.at(now.name())))
                                    : dense_change(now, base_->parameters()[i]));
    }
    return out;
  }
  void end_round() override {
    for (auto& [name, values] : began_)
      carried_[name] = change_of(copy_->parameters()[copy_->find(name)], values);
    began_.clear();
    set_.rest(late_);
    copy_.reset();
    gradients_ = {};
  }
  Carried carried() const override { return carried_; }
  bool carry(const Carried& values) override {
    carried_ = values;
    return values.empty() || (late_ && values.size() == saved_.size());
  }
  std::size_t rank() const override { return set_.max_rank(); }
  Result<void> load(const std::map<std::string, adapter::Factors>& factors) override {
    return set_.load(factors);
  }

  void merge(protocol::Restart policy, const sys::Stream& stream, tensor::Team& team) override {
    check(copy_.has_value(), "heads are merged into a copy of the model");
    adapter::Packet packet;
    for (const auto& [name, change] : set_.increment()) {
      std::vector<LowRank> pairs;
      for (const auto& term : change.terms) pairs.push_back(std::get<LowRank>(term));
      LowRank sum = adapter::stacked(pairs);
      packet.tensors.emplace(
          name, adapter::PacketTensor{change.d_out, change.d_in,
                                      adapter::Stack{std::move(sum.b), std::move(sum.a)}});
    }
    model::fold(*copy_, packet, &team);
    policy == protocol::Restart::kFresh ? set_.restart_merged(stream, &team) : set_.mark_merged();
  }

  Result<void> restart(protocol::Restart policy,
                       const std::map<std::string, LowRank, std::less<>>& mean) override {
    if (policy == protocol::Restart::kMean) return restart_from_mean(mean);
    late_ ? set_.anchor_late() : set_.anchor();
    return {};
  }

 private:
  void begin_saved(model::Parameter& parameter) {
    const auto values = parameter.master();
    if (!late_) return;
    if (const auto own = carried_.find(parameter.name()); own != carried_.end()) {
      check(own->second.size() == values.size(), "what is carried on is of the same tensor");
      for (std::size_t i = 0; i < values.size(); ++i) values[i] += own->second[i];
    }
    began_[parameter.name()].assign(values.begin(), values.end());
  }

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
  std::vector<std::size_t> saved_;  // parameters trained themselves
  bool copies_;
  bool late_;
  Carried carried_;  // late: own change of saved_ in the last round
  Carried began_;    // late: their values when this round began
  const model::Model* base_ = nullptr;
  std::optional<model::Model> copy_;  // of a round that changes more than adapters
  model::FullGradients gradients_;    // of saved_
};

// Every parameter, with no adapter and nothing that outlives a round.
class WholeModel : public Trainable {
 public:
  const adapter::AdapterSet* adapters() const override { return nullptr; }
  std::vector<adapter::ParamRef> kept_params() override { return {}; }
  void merge(protocol::Restart, const sys::Stream&, tensor::Team&) override {}
  void aim(model::TrainRequest& request) override { request.full = &gradients_; }
  std::size_t rank() const override { return 0; }
  Result<void> load(const std::map<std::string, adapter::Factors>&) override {
    return fail({.code = ErrorCode::kConfig,
                 .what = "is set for full training",
                 .where = "adapter.init",
                 .rule = "an initial adapter needs an adapter method"});
  }
  Result<void> restart(protocol::Restart,
                       const std::map<std::string, LowRank, std::less<>>&) override {
    return {};  // every round starts from the merged base
  }

 protected:
  const model::Model* base_ = nullptr;
  model::FullGradients gradients_;
};

// Nothing changes: what is told of the round is the gradient of its step.
class GradientTrainable final : public WholeModel {
 public:
  void begin_round(const model::Model& base) override {
    base_ = &base;
    gradients_ = model::FullGradients::zeros(base);
  }
  const model::Model& model() const override { return *base_; }
  std::vector<adapter::ParamRef> params() override {
    std::vector<adapter::ParamRef> out;
    for (std::size_t i = 0; i < gradients_.values.size(); ++i)
      out.push_back({.name = base_->parameters()[i].name(),
                     .role = adapter::ParamRole::kBase,
                     .value = {},
                     .grad = gradients_.values[i],
                     .lr_multiplier = 1.0f,
                     .decay = false});
    return out;
  }
  void end_round() override { gradients_ = {}; }
  void prepare(tensor::Team&) override {}
  adapter::DeltaTerms delta() const override {
    adapter::DeltaTerms out;
    for (std::size_t i = 0; i < gradients_.values.size(); ++i) {
      const auto& parameter = base_->parameters()[i];
      out.emplace(parameter.name(), dense_delta(parameter, gradients_.values[i]));
    }
    return out;
  }
};

// A copy of the model.
class FullTrainable final : public WholeModel {
 public:
  void begin_round(const model::Model& base) override {
    base_ = &base;
    copy_ = base;
    for (auto& parameter : copy_->parameters()) (void)parameter.master();
    gradients_ = model::FullGradients::zeros(*copy_);
  }
  const model::Model& model() const override { return *copy_; }
  std::vector<adapter::ParamRef> params() override {
    std::vector<adapter::ParamRef> out;
    for (std::size_t i = 0; copy_ && i < copy_->parameters().size(); ++i)
      out.push_back(reference(copy_->parameters()[i], gradients_.values[i]));
    return out;
  }
  void end_round() override {
    copy_.reset();
    gradients_ = {};
  }
  void prepare(tensor::Team& team) override {
    const auto parameters = copy_->parameters();
    team.for_tasks(parameters.size(), [&](std::size_t i, int) { parameters[i].refresh(); });
  }
  adapter::DeltaTerms delta() const override {
    adapter::DeltaTerms out;
    for (std::size_t i = 0; i < copy_->parameters().size(); ++i) {
      const auto& now = copy_->parameters()[i];
      out.emplace(now.name(), dense_change(now, base_->parameters()[i]));
    }
    return out;
  }

 private:
  std::optional<model::Model> copy_;
};

}  // namespace

std::vector<adapter::LinearShape> linear_shapes(const model::Model& model) {
  std::vector<adapter::LinearShape> out;
  for (const auto& site : model.linears()) out.push_back({site.module, site.d_out, site.d_in});
  return out;
}

Result<std::vector<std::size_t>> saved_parameters(const adapter::AdapterConfig& config,
                                                  const model::Model& base,
                                                  const adapter::AdapterSet& set) {
  std::set<std::size_t> adapted;
  for (std::size_t i = 0; i < base.linears().size(); ++i) {
    if (set.at(i) != nullptr) adapted.insert(base.linears()[i].weight);
  }
  const auto refuse = [](const std::string& name, std::string rule) {
    return fail({.code = ErrorCode::kConfig,
                 .what = "\"" + printable(name, 80) + "\" cannot be trained itself",
                 .where = "adapter.modules_to_save",
                 .rule = std::move(rule)});
  };
  std::set<std::size_t> out;
  for (const auto& pattern : config.modules_to_save) {
    bool hit = false;
    for (std::size_t i = 0; i < base.parameters().size(); ++i) {
      const std::string& name = base.parameters()[i].name();
      const bool rest = pattern == "all-other";
      auto matches = rest ? Result<bool>(!adapted.contains(i))
                          : adapter::names_module(pattern, name.substr(0, name.rfind('.')));
      if (!matches) return fail(std::move(matches).error());
      if (!*matches) continue;
      if (adapted.contains(i)) return refuse(pattern, "an adapter changes " + name);
      out.insert(i);
      hit = true;
    }
    if (!hit) return refuse(pattern, "it matches no module of this model");
  }
  return std::vector<std::size_t>(out.begin(), out.end());
}

Result<std::unique_ptr<Trainable>> make_trainable(const adapter::AdapterConfig& config,
                                                  const model::Model& base,
                                                  const std::optional<sys::Stream>& stream,
                                                  const sys::Stream& shared, std::uint32_t round,
                                                  Merging merging, bool late, tensor::Team* team) {
  if (merging == Merging::kGradients) return std::make_unique<GradientTrainable>();
  if (config.method == "full") return std::make_unique<FullTrainable>();
  const auto linears = linear_shapes(base);
  auto set = adapter::AdapterSet::make(config, linears, shared, round);
  if (!set) return fail(std::move(set).error());
  auto saved = saved_parameters(config, base, *set);
  if (!saved) return fail(std::move(saved).error());
  if (stream) set->reset(*stream, team);
  return std::make_unique<AdapterTrainable>(std::move(*set), linears.size(), std::move(*saved),
                                            merging, late);
}

}  // namespace strata::client

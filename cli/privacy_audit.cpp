#include "cli/privacy_audit.h"

#include <algorithm>
#include <cmath>

#include "client/local_trainer.h"

namespace strata::cli {
namespace {

// Raw norm of a canary over the largest C: far outside, so that a missing clip shows.
constexpr double kRawNorm = 1000.0;
constexpr std::size_t kRecordTokens = 24;

class Planted final : public client::PlantedUnits {
 public:
  Planted(privacy::Canaries& canaries, const client::DpSgdConfig& mechanism)
      : canaries_(canaries), divisor_(mechanism.divisor) {
    double largest = mechanism.clip.norm;
    if (mechanism.clip.kind == "adaptive") largest = std::max(largest, mechanism.clip.norm_max);
    for (const auto& [layer, bound] : mechanism.clip.bounds) largest = std::max(largest, bound);
    raw_norm_ = static_cast<float>(kRawNorm * largest);
  }
  std::size_t count() const override { return canaries_.planted(); }
  void gradient(std::size_t unit, std::span<float> out) const override {
    std::fill(out.begin(), out.end(), 0.0f);
    out[canaries_.place(unit)] = static_cast<float>(canaries_.sign(unit, step_)) * raw_norm_;
  }
  void released(std::span<const adapter::ParamRef> params, double clip_norm) override {
    release_.clear();
    for (const auto& param : params)
      release_.insert(release_.end(), param.grad.begin(), param.grad.end());
    canaries_.see(step_++, release_, clip_norm / divisor_);
  }

 private:
  privacy::Canaries& canaries_;
  double divisor_;
  float raw_norm_ = 0.0f;
  std::int64_t step_ = 0;
  std::vector<float> release_;
};

std::vector<text::Example> drawn_records(std::size_t count, const model::Model& base,
                                         sys::Stream draws) {
  std::vector<text::Example> out(count);
  for (auto& example : out) {
    for (std::size_t i = 0; i < kRecordTokens; ++i)
      example.tokens.push_back(static_cast<text::TokenId>(draws.below(base.config().vocab)));
    example.trained.assign(kRecordTokens, 1);
    example.source = "drawn";
  }
  return out;
}

}  // namespace

Result<AuditReport> audit_run(const AuditRequest& request, const model::Model& base,
                              Context& context) {
  const sys::Stream draws(request.seed);
  client::ClientSpec spec{
      .name = "audit",
      .adapter = request.adapter,
      .initial = {},
      .examples = drawn_records(request.records, base, draws.at({.purpose = "records"})),
      .privacy = request.mechanism};
  privacy::CanaryPlan plan{.canaries = request.canaries,
                           .values = 0,
                           .per_round = request.schedule.per_round,
                           .rounds = request.schedule.rounds,
                           .sampling_rate = request.mechanism.sampling_rate.value_or(1.0),
                           .seed = draws.at({.purpose = "canaries"}).word(0)};
  auto set = adapter::AdapterSet::make(spec.adapter, client::linear_shapes(base), sys::Stream(0));
  if (!set) return fail(std::move(set).error());
  plan.values = set->trainable_count();
  if (plan.canaries == 0) {
    auto enough = privacy::canaries_for(request.claimed, request.delta, request.confidence, plan);
    if (!enough) return fail(std::move(enough).error());
    plan.canaries = *enough;
  }
  auto canaries = privacy::Canaries::make(plan);
  if (!canaries) return fail(std::move(canaries).error());
  Planted planted(*canaries, request.mechanism);
  spec.planted = &planted;

  const auto rounds = static_cast<std::uint32_t>(request.schedule.rounds);
  auto trainer = client::LocalTrainer::make(std::move(spec), request.training, base, rounds);
  if (!trainer) return fail(std::move(trainer).error());
  check(trainer->steps_per_round() == request.schedule.per_round, "what is charged is trained");
  model::Workspace workspace(static_cast<int>(request.training.threads));
  client::RoundTools tools{context.clock, context.progress, workspace, context.stopped};
  for (std::uint32_t round = 1; round <= rounds; ++round) {
    if (round > 1 && request.restart == protocol::Restart::kFresh) {
      if (auto fresh = trainer->restart(request.restart, round - 1, {}); !fresh)
        return fail(std::move(fresh).error());
    }
    auto done = trainer->run_round(
        base, {.round = round, .rounds = rounds, .restart = request.restart}, tools);
    if (!done) return fail(std::move(done).error());
  }
  auto findings = canaries->findings(request.delta, request.confidence);
  if (!findings) return fail(std::move(findings).error());
  AuditReport out{.canaries = plan.canaries,
                  .planted = canaries->planted(),
                  .values = plan.values,
                  .releases = plan.steps(),
                  .findings = std::move(*findings)};
  out.verdict = privacy::verdict_of(out.findings, request.claimed);
  // A canary lies in one layer, and counts for that layer's norm only: it shows less than `most`.
  if (request.mechanism.clip.kind == "per_layer" &&
      out.verdict == privacy::AuditVerdict::kConsistent)
    out.verdict = privacy::AuditVerdict::kInconclusive;
  return out;
}

}  // namespace strata::cli

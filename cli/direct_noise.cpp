#include "cli/direct_noise.h"

#include <fmt/format.h>

#include <algorithm>

#include "client/private_gradient.h"
#include "client/schedule/schedule.h"

namespace strata::cli {
namespace {

bool trains_a(const adapter::AdapterSet& adapters) {
  const auto params = adapters.params();
  return std::any_of(params.begin(), params.end(), [](const adapter::ParamRef& param) {
    return param.role == adapter::ParamRole::kFactorA;
  });
}

tl::unexpected<Error> unknown(const std::string& file, std::string_view key, std::string what,
                              std::string rule) {
  return fail({.code = ErrorCode::kUnsupported,
               .what = std::move(what),
               .where = fmt::format("{}: {}", file, key),
               .rule = std::move(rule),
               .remedy = "use the adapter as it is"});
}

// What unit noise in each release of a round (from 0) leaves in a value: the sum of squares of the
// learning rates, with momentum of those that follow, too.
double moved_by_noise(const Job& job, const client::Schedule& schedule, std::int64_t round) {
  const std::int64_t steps = job.privacy.steps.local_per_round;
  const std::int64_t first = steps * round;
  const auto entry = coordinator::find_aggregator(job.aggregation.method);
  const bool afresh = entry && !(*entry)->averages_factors && job.aggregation.restart == "fresh";
  const auto& optimizer = job.training.optimizer;
  const double momentum = optimizer.method == "sgd" ? optimizer.momentum : 0.0;
  double sum = 0.0, reach = 0.0;
  for (std::int64_t i = first + steps; i-- > first;) {
    const double rate = optimizer.learning_rate * schedule.factor(i, afresh ? first : 0);
    reach = rate + momentum * reach;
    sum += reach * reach;
  }
  return sum;
}

}  // namespace

Result<void> check_direct_noise(const Job& job, const adapter::AdapterSet& adapters,
                                const std::string& file) {
  if (trains_a(adapters))
    return unknown(file, "adapter.method", "trains A and B both",
                   "the noise of their product is not linear, so its size depends on the records");
  if (job.privacy.mode == "client_local") return {};
  if (job.privacy.mode != "example_dpsgd")
    return unknown(file, "privacy.mode", fmt::format("is \"{}\"", job.privacy.mode),
                   "the size of the noise must be known, as with \"example_dpsgd\" and "
                   "\"client_local\"");
  if (job.privacy.clip.kind == "adaptive")
    return unknown(file, "privacy.clip.kind", "is \"adaptive\"",
                   "the noise followed a clip norm that followed the records");
  const auto& optimizer = job.training.optimizer;
  if (optimizer.method != "sgd")
    return unknown(file, "training.optimizer", fmt::format("is \"{}\"", optimizer.method),
                   "it scales each value by its own past, so the noise it leaves is not even and "
                   "its size not known; \"sgd\" leaves it as it is");
  if (optimizer.momentum != 0.0)
    return unknown(file, "training.momentum", fmt::format("is {:g}", optimizer.momentum),
                   "only plain steps leave noise of a known size");
  if (optimizer.weight_decay != 0.0)
    return unknown(file, "training.weight_decay", fmt::format("is {:g}", optimizer.weight_decay),
                   "only plain steps leave noise of a known size");
  return {};
}

Result<std::vector<ValueNoise>> noise_by_round(const Job& job, double multiplier,
                                               const adapter::AdapterConfig& config,
                                               const adapter::AdapterSet& adapters) {
  auto clip = client::PrivateGradient::clip_norm_of(job.privacy.clip, adapters);
  if (!clip) return fail(std::move(clip).error());
  auto schedule = client::Schedule::make(
      job.training.schedule, job.privacy.steps.local_per_round * job.aggregation.rounds);
  if (!schedule) return fail(std::move(schedule).error());
  const bool steps = job.privacy.mode != "client_local";
  const bool scaled = steps && job.training.optimizer.method != "sgd";
  const double released =
      scaled ? 1.0 : multiplier * *clip / job.privacy.batch_divisor.value_or(1.0);
  const double both = trains_a(adapters) ? 1.0 : 0.0;
  const double ratio = steps ? config.lr_ratio_b : 1.0;  // LoRA+
  std::vector<ValueNoise> out;
  for (std::int64_t round = 0; round < job.aggregation.rounds; ++round) {
    const double variance =
        released * released * (steps ? moved_by_noise(job, *schedule, round) : 1.0);
    out.push_back({.a = both * variance, .b = ratio * ratio * variance});
  }
  return out;
}

}  // namespace strata::cli

#include "cli/private_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "cli/central_sum.h"

namespace strata::cli {

Result<std::optional<privacy::Promise>> promise_of(const Job& job, const std::string& file) {
  if (!job.privacy.on()) return std::optional<privacy::Promise>{};
  const privacy::Schedule schedule{.per_round = job.privacy.steps.local_per_round,
                                   .rounds = job.privacy.steps.rounds};
  auto promise = privacy::promise_of(job.privacy, schedule, file + ": privacy");
  if (!promise) return fail(std::move(promise).error());
  return std::optional(std::move(*promise));
}

nlohmann::ordered_json statement_of(const Job& job,
                                    const std::optional<privacy::Promise>& promise) {
  using json = nlohmann::ordered_json;
  if (!promise) return {{"format", 1}, {"mode", "none"}, {"private", false}};
  const auto number = [](double value) {
    return std::isfinite(value) ? json(value) : json(nullptr);
  };
  const auto& p = *promise;
  json out{{"format", 1},
           {"mode", p.mode},
           {"private", std::isfinite(p.epsilon)},
           {"unit", p.unit},
           {"adjacency", p.adjacency},
           {"adversary", p.adversary},
           {"epsilon", number(p.epsilon)},
           {"delta", p.delta},
           {"accountant", p.accountant},
           {"epsilon_by", {{"pld", number(p.epsilon_pld)}, {"rdp", number(p.epsilon_rdp)}}},
           {"noise_multiplier", p.noise_multiplier},
           {"sampling_rate", p.sampling_rate},
           {"releases", {{"per_round", p.schedule.per_round}, {"rounds", p.schedule.rounds}}},
           {"clip", {{"kind", job.privacy.clip.kind}, {"C", job.privacy.clip.norm}}},
           {"max_clients_per_person", p.clients_per_person}};
  if (p.mode == "client_central")
    out["weights"] = {{"largest", weight_max(job)},
                      {"denominator", *job.privacy.weights.denominator}};
  if (!std::isfinite(p.epsilon)) out["PRIVATE"] = "NO";
  return out;
}

std::string privacy_line(const std::optional<privacy::Promise>& promise) {
  return promise ? privacy::sentence(*promise) : "none: nothing is promised about the records";
}

Result<client::DpSgdConfig> dp_sgd_of(const Job& job, const privacy::Promise& promise,
                                      std::size_t values) {
  const auto& p = job.privacy;
  auto bits = privacy::grid_bits_of(promise, p.noise.grid_bits, values, "privacy");
  if (!bits) return fail(std::move(bits).error());
  return client::DpSgdConfig{.clip = p.clip,
                             .noise_multiplier = promise.gradient_multiplier,
                             .sampling_rate = p.sampling.q,
                             .divisor = p.batch_divisor.value_or(1.0),
                             .grid_bits = *bits,
                             .seeded = p.seeded_noise,
                             .whole_update = p.mode == "client_local"};
}

}  // namespace strata::cli

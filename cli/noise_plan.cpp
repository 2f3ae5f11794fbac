#include "cli/noise_plan.h"

#include <algorithm>

#include "cli/direct_noise.h"
#include "client/trainable.h"

namespace strata::cli {
namespace {

// Below that the losses of the methods could not be told apart (docs/manual/privacy.md).
constexpr double kWorthIt = 1.05;

// Of a client in a round, in the mean over draws of m out of K: (K / m) p^2 of all together.
std::vector<double> weights_of(const Job& job) {
  double sum = 0.0;
  for (const auto& client : job.clients) sum += client.weight;
  const auto all = static_cast<double>(job.clients.size());
  const auto asked = static_cast<double>(job.aggregation.clients_per_round);
  const double drawn = asked > 0.0 ? std::min(asked, all) : all;
  std::vector<double> out;
  for (const auto& client : job.clients)
    out.push_back(client.weight / sum * std::sqrt(all / drawn));
  return out;
}

struct Trained {
  adapter::AdapterSet as_it_is;  // for ranks and scales
  std::vector<ValueNoise> by_round;
};

Result<std::vector<Trained>> trained_by(const Job& job, const privacy::Promise& promise,
                                        std::span<const adapter::LinearShape> linears,
                                        const std::string& method) {
  std::vector<Trained> out;
  for (const auto& client : job.clients) {
    auto own = adapter::AdapterSet::make(client.adapter, linears, sys::Stream(0));
    if (!own) return fail(std::move(own).error(), "client " + client.name);
    adapter::AdapterConfig config = client.adapter;
    if (!method.empty()) config.method = method;
    auto other = adapter::AdapterSet::make(config, linears, sys::Stream(0));
    if (!other) return fail(std::move(other).error(), "client " + client.name);
    Trained trained{.as_it_is = std::move(*own)};
    for (std::uint32_t round = 1; round <= job.aggregation.rounds; ++round) {
      auto noise = value_noise(job, promise.gradient_multiplier, config, *other, round);
      if (!noise) return fail(std::move(noise).error(), "client " + client.name);
      trained.by_round.push_back(*noise);
    }
    out.push_back(std::move(trained));
  }
  return out;
}

// `method` for every client, or their own where it is empty.
Result<privacy::MergedNoise> noise_with(const Job& job, const privacy::Promise& promise,
                                        std::span<const adapter::LinearShape> linears,
                                        const std::string& method) {
  auto clients = trained_by(job, promise, linears, method);
  if (!clients) return fail(std::move(clients).error());
  const auto weights = weights_of(job);
  const bool flora = job.aggregation.method == "flora";
  const bool afresh = flora && job.aggregation.restart == "fresh";
  const auto rounds = static_cast<std::size_t>(job.aggregation.rounds);
  privacy::MergedNoise out;
  for (std::size_t i = 0; i < linears.size(); ++i) {
    // Factors that go on collect the noise of all rounds before it is multiplied.
    for (std::size_t first = 0; first < rounds; first += afresh ? 1 : rounds) {
      std::vector<privacy::NoisyFactors> parts;
      for (std::size_t k = 0; k < clients->size(); ++k) {
        const auto* own = (*clients)[k].as_it_is.at(i);
        if (own == nullptr) continue;
        privacy::NoisyFactors part{
            .weight = weights[k], .scale = own->scale(), .rank = own->rank()};
        for (std::size_t t = first; t < (afresh ? first + 1 : rounds); ++t) {
          part.a += (*clients)[k].by_round[t].a;
          part.b += (*clients)[k].by_round[t].b;
        }
        parts.push_back(part);
      }
      out += privacy::merged_noise(linears[i].d_out, linears[i].d_in, parts,
                                   flora ? privacy::Merge::kProducts : privacy::Merge::kFactors);
    }
  }
  return out;
}

}  // namespace

Result<NoisePlan> noise_plan(const Job& job, const privacy::Promise& promise,
                             const model::Model& base) {
  const auto linears = client::linear_shapes(base);
  auto own = noise_with(job, promise, linears, "");
  if (!own) return fail(std::move(own).error());
  NoisePlan out{.as_it_is = *own};
  for (const char* method : {"lora", "ffa", "seeded-a"}) {
    auto other = noise_with(job, promise, linears, method);
    if (!other) return fail(std::move(other).error());
    out.alternatives.push_back({method, *other});
  }
  const bool used = std::all_of(job.clients.begin(), job.clients.end(), [](const auto& client) {
    return client.adapter.method == "seeded-a";
  });
  out.ratio = own->norm() / out.alternatives.back().noise.norm();
  out.recommend_seeded = !used && out.ratio >= kWorthIt;
  return out;
}

}  // namespace strata::cli

#include "cli/noise_plan.h"

#include <algorithm>
#include <cmath>

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

struct Layer {
  double scale = 0.0;
  std::size_t rank = 0;  // 0: without an adapter
  bool own_a = true;     // every client draws its own
};

struct Trained {
  std::vector<Layer> layers;  // as the job has them
  std::vector<ValueNoise> by_round;
};

Result<Trained> trained_by(const Job& job, const privacy::Promise& promise,
                           std::span<const adapter::LinearShape> linears,
                           const adapter::AdapterConfig& own, const std::string& method) {
  Trained out;
  auto set = adapter::AdapterSet::make(own, linears, sys::Stream(0));
  if (!set) return fail(std::move(set).error());
  for (std::size_t i = 0; i < linears.size(); ++i) {
    const auto* site = set->at(i);
    out.layers.push_back(site == nullptr ? Layer{} : Layer{site->scale(), site->rank()});
  }
  adapter::AdapterConfig config = own;
  if (!method.empty()) {
    config.method = method;
    config.freeze_a = false;
  }
  set = adapter::AdapterSet::make(config, linears, sys::Stream(0));
  if (!set) return fail(std::move(set).error());
  const auto entry = adapter::find_method(config.method);
  for (auto& layer : out.layers) layer.own_a = entry && (*entry)->own_factors;
  auto noise = noise_by_round(job, promise.gradient_multiplier, config, *set);
  if (!noise) return fail(std::move(noise).error());
  out.by_round = *std::move(noise);
  return out;
}

// Of all clients; most have one configuration, which is worked out once.
Result<std::vector<Trained>> trained_by_all(const Job& job, const privacy::Promise& promise,
                                            std::span<const adapter::LinearShape> linears,
                                            const std::string& method) {
  std::vector<Trained> out;
  for (std::size_t k = 0; k < job.clients.size(); ++k) {
    const auto& own = job.clients[k].adapter;
    const auto same =
        std::find_if(job.clients.begin(), job.clients.begin() + static_cast<std::ptrdiff_t>(k),
                     [&](const auto& other) { return other.adapter == own; });
    const auto known = static_cast<std::size_t>(same - job.clients.begin());
    if (known < k) {
      out.emplace_back(out[known]);
      continue;
    }
    auto trained = trained_by(job, promise, linears, own, method);
    if (!trained) return fail(std::move(trained).error(), "client " + job.clients[k].name);
    out.push_back(*std::move(trained));
  }
  return out;
}

// `method` for every client, or their own where it is empty.
Result<privacy::MergedNoise> noise_with(const Job& job, const privacy::Promise& promise,
                                        std::span<const adapter::LinearShape> linears,
                                        const std::string& method) {
  auto clients = trained_by_all(job, promise, linears, method);
  if (!clients) return fail(std::move(clients).error());
  const auto weights = weights_of(job);
  const auto entry = coordinator::find_aggregator(job.aggregation.method);
  if (!entry) return fail(entry.error());
  const bool averages = (*entry)->averages_factors;
  const bool afresh = !averages && job.aggregation.restart == "fresh";
  const auto rounds = static_cast<std::size_t>(job.aggregation.rounds);
  privacy::MergedNoise out;
  for (std::size_t i = 0; i < linears.size(); ++i) {
    // Factors that go on collect the noise of all rounds before it is multiplied.
    for (std::size_t first = 0; first < rounds; first += afresh ? 1 : rounds) {
      std::vector<privacy::NoisyFactors> parts;
      for (std::size_t k = 0; k < clients->size(); ++k) {
        const Layer& own = (*clients)[k].layers[i];
        if (own.rank == 0) continue;
        privacy::NoisyFactors part{
            .weight = weights[k], .scale = own.scale, .rank = own.rank, .own_a = own.own_a};
        for (std::size_t t = first; t < (afresh ? first + 1 : rounds); ++t) {
          part.a += (*clients)[k].by_round[t].a;
          part.b += (*clients)[k].by_round[t].b;
        }
        parts.push_back(part);
      }
      out += privacy::merged_noise(linears[i].d_out, linears[i].d_in, parts,
                                   averages ? privacy::Merge::kFactors : privacy::Merge::kProducts);
    }
  }
  return out;
}

}  // namespace

Result<std::optional<NoisePlan>> noise_plan(const Job& job, const privacy::Promise& promise,
                                            const model::Model& base) {
  for (const auto& client : job.clients) {
    if (client.adapter.heads > 1 || client.adapter.method == "lte") return std::nullopt;
  }
  const auto linears = client::linear_shapes(base);
  auto own = noise_with(job, promise, linears, "");
  if (!own) return fail(std::move(own).error());
  NoisePlan out{.as_it_is = *own, .alternatives = {}};
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

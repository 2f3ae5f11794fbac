// Privacy noise a sample, and a unit of a sum a value.
#include <benchmark/benchmark.h>

#include <cmath>

#include "privacy/noise/noisy_sum.h"

namespace strata::noise {
namespace {

void discrete_gaussian(benchmark::State& state) {
  const auto source = SecureNoise::make().value();
  const auto noise = DiscreteGaussian::make(static_cast<std::uint64_t>(state.range(0))).value();
  std::vector<std::int64_t> out(1 << 16);
  for (auto _ : state) {
    noise.fill(out, *source);
    benchmark::DoNotOptimize(out.data());
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(out.size()));
}
BENCHMARK(discrete_gaussian)->Arg(3)->Arg(1 << 20)->Arg((1 << 20) + 12345)->Arg(1 << 26);

void add_unit(benchmark::State& state) {
  const auto size = static_cast<std::size_t>(state.range(0));
  tensor::Team team(1);
  NoisySum sum(Grid::make(1.0, 1.1).value(), size);
  const std::vector<float> unit(size, 0.9f / std::sqrt(static_cast<float>(size)));
  for (auto _ : state) sum.add(unit, team);
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(add_unit)->Arg(1 << 14)->Arg(1000000);

}  // namespace
}  // namespace strata::noise

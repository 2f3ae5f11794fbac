// Matrix products in the shapes of a transformer layer, on one thread: T tokens, SmolLM2's widths.
#include <benchmark/benchmark.h>

#include "tensor/typed_rows.h"

namespace strata::tensor {
namespace {

// out (M x N) = a (M x K) b, b as stored N x K (forward) or K x N (input gradients).
void product(benchmark::State& state, DType type, bool transposed) {
  const auto m = static_cast<std::size_t>(state.range(0));
  const auto n = static_cast<std::size_t>(state.range(1));
  const auto k = static_cast<std::size_t>(state.range(2));
  std::vector<float> a(m * k, 0.37f), b(n * k, 0.37f), c(m * n);
  const TypedRows left(a.data(), type, m, k);
  const TypedRows right =
      transposed ? TypedRows(b.data(), type, n, k) : TypedRows(b.data(), type, k, n);
  const std::vector<float> values(std::max(m, n) * k, 0.37f);
  left.take({values.data(), left.rows, left.cols});
  right.take({values.data(), right.rows, right.cols});
  const Operand second = transposed ? Operand(right).t() : Operand(right);
  Gemm gemm;
  for (auto _ : state) {
    gemm.multiply({c.data(), m, n}, left, second, false);
    benchmark::DoNotOptimize(c.data());
  }
  state.counters["FLOP/s"] = benchmark::Counter(2.0 * static_cast<double>(m * n * k),
                                                benchmark::Counter::kIsIterationInvariantRate);
}

void shapes(benchmark::internal::Benchmark* b) {
  for (const int tokens : {64, 256, 512}) {
    b->Args({tokens, 576, 576})
        ->Args({tokens, 192, 576})
        ->Args({tokens, 1536, 576})
        ->Args({tokens, 576, 1536});
    b->Args({tokens, 16, 576})->Args({tokens, 576, 16});  // an adapter's
  }
}

BENCHMARK_CAPTURE(product, f32_forward, DType::kF32, true)->Apply(shapes);
BENCHMARK_CAPTURE(product, f32_backward, DType::kF32, false)->Apply(shapes);
BENCHMARK_CAPTURE(product, bf16_forward, DType::kBF16, true)->Apply(shapes);
BENCHMARK_CAPTURE(product, bf16_backward, DType::kBF16, false)->Apply(shapes);

}  // namespace
}  // namespace strata::tensor

// The decoder's operations between products, on one thread, over a block of 256 tokens of SmolLM2.
#include <benchmark/benchmark.h>

#include "model/ops/activation.h"
#include "model/ops/attention.h"
#include "model/ops/cross_entropy.h"
#include "model/ops/norm.h"
#include "model/ops/rope.h"
#include "sys/random.h"

namespace strata::model {
namespace {

using tensor::DType;
using tensor::Matrix;
using tensor::TypedRows;

constexpr std::size_t kRows = 256, kHidden = 576, kInner = 1536, kVocab = 49152;

Matrix drawn(std::size_t rows, std::size_t cols) {
  sys::Stream draws(rows + cols);
  Matrix out(rows, cols);
  for (float& value : out.values()) value = static_cast<float>(draws.normal());
  return out;
}

// `bytes`: what the operation must read and write.
void count(benchmark::State& state, std::size_t bytes) {
  state.SetBytesProcessed(static_cast<std::int64_t>(state.iterations()) *
                          static_cast<std::int64_t>(bytes));
}

void norm_forward(benchmark::State& state, DType type) {
  const Matrix x = drawn(kRows, kHidden), gain = drawn(1, kHidden);
  std::vector<float> y(kRows * kHidden), rstd(kRows), scratch(kHidden);
  const NormWeights weights{.gain = gain.values(), .bias = {}};
  for (auto _ : state) {
    model::norm_forward(TypedRows(y.data(), type, kRows, kHidden), {rstd, {}}, x.view(), weights,
                        scratch.data());
    benchmark::DoNotOptimize(y.data());
  }
  count(state, kRows * kHidden * (4 + tensor::size_of(type)));
}
BENCHMARK_CAPTURE(norm_forward, f32, DType::kF32);
BENCHMARK_CAPTURE(norm_forward, bf16, DType::kBF16);

void norm_backward(benchmark::State& state) {
  const Matrix x = drawn(kRows, kHidden), dy = drawn(kRows, kHidden), gain = drawn(1, kHidden);
  Matrix dx(kRows, kHidden);
  std::vector<float> rstd(kRows, 1.0f);
  const NormWeights weights{.gain = gain.values(), .bias = {}};
  for (auto _ : state) {
    model::norm_backward(dx.view(), dx.view(), dy.view(), x.view(), {rstd, {}}, weights);
    benchmark::DoNotOptimize(dx.data());
  }
  count(state, 4 * kRows * kHidden * sizeof(float));
}
BENCHMARK(norm_backward);

void swiglu_forward(benchmark::State& state, DType type) {
  const Matrix gate = drawn(kRows, kInner), up = drawn(kRows, kInner);
  std::vector<float> act(kRows * kInner), scratch(kActivationScratch * kInner);
  for (auto _ : state) {
    model::swiglu_forward(TypedRows(act.data(), type, kRows, kInner), gate.view(), up.view(),
                          scratch.data());
    benchmark::DoNotOptimize(act.data());
  }
  count(state, kRows * kInner * (8 + tensor::size_of(type)));
}
BENCHMARK_CAPTURE(swiglu_forward, f32, DType::kF32);
BENCHMARK_CAPTURE(swiglu_forward, bf16, DType::kBF16);

void swiglu_backward(benchmark::State& state, DType type) {
  const Matrix values = drawn(kRows, kInner);
  std::vector<float> memory(5 * kRows * kInner), scratch(kActivationScratch * kInner);
  const auto rows = [&](std::size_t i) {
    return TypedRows(memory.data() + i * kRows * kInner, type, kRows, kInner);
  };
  rows(3).take(values.view());
  rows(4).take(values.view());
  for (auto _ : state) {
    model::swiglu_backward(rows(0), rows(1), rows(2), values.view(), rows(3), rows(4),
                           scratch.data());
    benchmark::DoNotOptimize(memory.data());
  }
  count(state, kRows * kInner * (4 + 5 * tensor::size_of(type)));
}
BENCHMARK_CAPTURE(swiglu_backward, f32, DType::kF32);
BENCHMARK_CAPTURE(swiglu_backward, bf16, DType::kBF16);

void rotary(benchmark::State& state) {
  DecoderConfig config;
  config.head_dim = 64;
  RopeTable table(config);
  table.ensure(kRows);
  std::vector<std::uint32_t> positions(kRows);
  for (std::size_t i = 0; i < kRows; ++i) positions[i] = static_cast<std::uint32_t>(i);
  Matrix q = drawn(kRows, kHidden);
  for (auto _ : state) {
    rope_apply(q.view(), 64, positions, table, false);
    benchmark::DoNotOptimize(q.data());
  }
  count(state, 2 * kRows * kHidden * sizeof(float));
}
BENCHMARK(rotary);

void attention(benchmark::State& state, DType type, bool backward) {
  const auto length = static_cast<std::size_t>(state.range(0));
  const AttentionShape shape{9, 3, 64, 0};
  const AttentionSegment segment{0, length, 0, length};
  const Matrix q = drawn(length, 576), k = drawn(length, 192), v = drawn(length, 192);
  Matrix o(length, 576), lse(length, 9), dots(length, 9), dq(length, 576), dk(length, 192),
      dv(length, 192);
  const AttentionInput in{q.view(), k.view(), v.view(), lse.view()};
  tensor::Gemm gemm;
  std::vector<float> scratch;
  const AttentionTools tools{gemm, scratch, type};
  const auto tasks = attention_tasks(std::span(&segment, 1), shape, 256);
  for (const auto& task : tasks) attention_forward(o.view(), in, segment, task, shape, tools);
  for (auto _ : state) {
    if (backward) {
      for (std::size_t h = 0; h < 3; ++h)
        attention_backward(dq.view(), dk.view(), dv.view(), o.view(), dots.view(), in, segment, h,
                           shape, tools);
    } else {
      for (const auto& task : tasks) attention_forward(o.view(), in, segment, task, shape, tools);
    }
    benchmark::DoNotOptimize(o.data());
  }
  const double pairs = static_cast<double>(length * (length + 1)) / 2.0;
  state.counters["FLOP/s"] = benchmark::Counter((backward ? 10.0 : 4.0) * pairs * 576.0,
                                                benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK_CAPTURE(attention, forward_f32, DType::kF32, false)->Arg(64)->Arg(180)->Arg(1024);
BENCHMARK_CAPTURE(attention, forward_bf16, DType::kBF16, false)->Arg(64)->Arg(180)->Arg(1024);
BENCHMARK_CAPTURE(attention, backward_f32, DType::kF32, true)->Arg(64)->Arg(180)->Arg(1024);
BENCHMARK_CAPTURE(attention, backward_bf16, DType::kBF16, true)->Arg(64)->Arg(180)->Arg(1024);

void cross_entropy(benchmark::State& state) {
  constexpr std::size_t kTargets = 16;
  const Matrix logits = drawn(kTargets, kVocab);
  Matrix z = logits;
  std::vector<float> loss(kTargets), weights(kTargets, 1.0f);
  std::vector<std::int32_t> targets(kTargets, 7);
  for (auto _ : state) {
    model::cross_entropy(loss, z.view(), targets, weights, {});
    benchmark::DoNotOptimize(z.data());
  }
  count(state, 2 * kTargets * kVocab * sizeof(float));
}
BENCHMARK(cross_entropy);

}  // namespace
}  // namespace strata::model

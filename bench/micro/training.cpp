// What surrounds a pass: optimizer, clipping, an adapter's products, the coordinator's merge.
#include <benchmark/benchmark.h>

#include "adapter/low_rank_adapter.h"
#include "adapter/packet.h"
#include "client/optimizer/optimizer.h"
#include "sys/random.h"
#include "tensor/typed_rows.h"

namespace strata {
namespace {

using tensor::Matrix;

Matrix drawn(std::size_t rows, std::size_t cols) {
  sys::Stream draws(rows + cols);
  Matrix out(rows, cols);
  for (float& value : out.values()) value = static_cast<float>(draws.normal());
  return out;
}

void adamw(benchmark::State& state) {
  Matrix value = drawn(1000, 4884), grad = drawn(1000, 4884);  // rank 16 on all of SmolLM2's layers
  const std::vector<adapter::ParamRef> params{{.name = "p",
                                               .role = adapter::ParamRole::kFactorA,
                                               .value = value.values(),
                                               .grad = grad.values(),
                                               .lr_multiplier = 1.0f,
                                               .decay = true}};
  auto optimizer = client::make_optimizer({}).value();
  tensor::Team team(1);
  for (auto _ : state) {
    client::clip_global_norm(params, 1.0, team);
    optimizer->step(params, 1e-4, team);
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(value.size()));
}
BENCHMARK(adamw);

void adapter_forward_backward(benchmark::State& state, tensor::DType type) {
  const auto rank = static_cast<std::size_t>(state.range(0));
  constexpr std::size_t kRows = 256, kIn = 576, kOut = 1536;
  auto lora = adapter::make_low_rank({"m", kOut, kIn}, rank, {});
  lora->reset(sys::Stream(1));
  lora->prepare(type);
  std::vector<float> x_memory(kRows * kIn), dy_memory(kRows * kOut);
  const tensor::TypedRows x(x_memory.data(), type, kRows, kIn),
      dy(dy_memory.data(), type, kRows, kOut);
  x.take(drawn(kRows, kIn).view());
  dy.take(drawn(kRows, kOut).view());
  Matrix y(kRows, kOut), dx(kRows, kIn), saved(kRows, rank), through(kRows, rank);
  tensor::Gemm gemm;
  adapter::AdapterScratch scratch;
  adapter::AdapterPass pass{.gemm = gemm, .scratch = scratch};
  for (auto _ : state) {
    lora->forward(pass, x, y.view(), saved.view());
    lora->backward_input(pass, dy, dx.view(), through.view());
    for (std::size_t part = 0; part < lora->parts(); ++part)
      lora->backward_factors(pass, part, x, dy, saved.view(), through.view(), nullptr, 0);
  }
  state.counters["FLOP/s"] =
      benchmark::Counter(6.0 * kRows * static_cast<double>(rank) * (kIn + kOut),
                         benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK_CAPTURE(adapter_forward_backward, f32, tensor::DType::kF32)->Arg(4)->Arg(16)->Arg(64);
BENCHMARK_CAPTURE(adapter_forward_backward, bf16, tensor::DType::kBF16)->Arg(4)->Arg(16)->Arg(64);

void merge(benchmark::State& state) {
  const auto rank = static_cast<std::size_t>(state.range(0));
  Matrix w = drawn(1536, 576);
  const adapter::PacketTensor change{1536, 576,
                                     adapter::Stack{drawn(1536, rank), drawn(rank, 576)}};
  for (auto _ : state) adapter::merge(w.values(), false, change);
  state.counters["FLOP/s"] = benchmark::Counter(2.0 * 1536 * 576 * static_cast<double>(rank),
                                                benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(merge)->Arg(16)->Arg(124)->Arg(1024);

// The linear layers of a model of 135 M parameters, on two threads.
void merge_model(benchmark::State& state) {
  constexpr std::size_t kWidth = 576, kNarrow = 192, kInner = 1536;
  struct Layer {
    Matrix w;
    adapter::PacketTensor change;
  };
  const auto rank = static_cast<std::size_t>(state.range(0));
  std::vector<Layer> layers;
  double flop = 0.0;
  for (int block = 0; block < 30; ++block) {
    for (const auto& [out, in] : {std::pair{kWidth, kWidth},
                                  {kNarrow, kWidth},
                                  {kNarrow, kWidth},
                                  {kWidth, kWidth},
                                  {kInner, kWidth},
                                  {kInner, kWidth},
                                  {kWidth, kInner}}) {
      layers.push_back(
          {drawn(out, in), {out, in, adapter::Stack{drawn(out, rank), drawn(rank, in)}}});
      flop += 2.0 * static_cast<double>(out * in * rank);
    }
  }
  tensor::Team team(2);
  for (auto _ : state) {
    adapter::MergeRoom room;
    for (auto& layer : layers)
      adapter::merge(layer.w.values(), false, layer.change, adapter::product_kernels().back(), team,
                     room);
  }
  state.counters["FLOP/s"] =
      benchmark::Counter(flop, benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(merge_model)->Arg(128)->Arg(256)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace strata

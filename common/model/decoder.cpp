#include "model/decoder.h"

#include <numeric>

#include "model/decoder_impl.h"
#include "tensor/convert.h"

namespace strata::model {

using tensor::DType;
using tensor::Matrix;

double LossSums::total_loss() const { return std::accumulate(loss.begin(), loss.end(), 0.0); }
std::uint64_t LossSums::total_trained() const {
  return std::accumulate(trained.begin(), trained.end(), std::uint64_t{0});
}
std::uint64_t LossSums::total_correct() const {
  return std::accumulate(correct.begin(), correct.end(), std::uint64_t{0});
}

FullGradients FullGradients::zeros(const Model& model) {
  FullGradients out;
  for (const auto& p : model.parameters()) out.values.emplace_back(p.size(), 0.0f);
  return out;
}

KvCache::KvCache(const Model& model, std::size_t sequences, std::size_t capacity)
    : capacity_(capacity), lengths_(sequences, 0) {
  for (std::size_t layer = 0; layer < model.config().layers; ++layer) {
    k_.emplace_back(sequences * capacity, model.config().kv_width());
    v_.emplace_back(sequences * capacity, model.config().kv_width());
  }
}

Decoder::Impl::Impl(const Model& m, DecoderOptions o)
    : model(m), options(o), rope(m.config()), caches(m.config().layers + 1) {
  for (auto& cache : caches) cache.saved.resize(8);
}

void Decoder::Impl::lay_out(const PackedBatch& batch) {
  layout.tokens = batch.tokens;
  layout.record_offsets = batch.offsets;
  layout.positions.clear();
  layout.segments.clear();
  std::size_t longest = 0;
  for (std::size_t i = 0; i + 1 < batch.offsets.size(); ++i) {
    const std::size_t first = batch.offsets[i];
    const std::size_t count = batch.offsets[i + 1] - first;
    for (std::size_t t = 0; t < count; ++t)
      layout.positions.push_back(static_cast<std::uint32_t>(t));
    if (count > 0) layout.segments.push_back({first, count, first, count});
    longest = std::max(longest, count);
  }
  rope.ensure(longest);
}

adapter::AdapterPass Decoder::Impl::pass(const TrainRequest* request) {
  return {.gemm = gemm,
          .floats = adapter_floats,
          .halves = adapter_halves,
          .training = request != nullptr,
          .dropout = request != nullptr ? request->dropout : sys::Stream(0)};
}

tensor::Operand Decoder::Impl::as_operand(tensor::ConstMatrixView x,
                                          std::vector<tensor::BFloat16>& half) const {
  if (model.compute() == DType::kF32) return x;
  if (half.size() < x.rows * x.cols) half = std::vector<tensor::BFloat16>(x.rows * x.cols);
  for (std::size_t t = 0; t < x.rows; ++t)
    tensor::to_bf16(half.data() + t * x.cols, x.row(t), x.cols);
  return tensor::Operand(half.data(), DType::kBF16, x.rows, x.cols);
}

AttentionShape Decoder::Impl::attention_shape(std::size_t layer) const {
  const DecoderConfig& c = model.config();
  return {.heads = c.heads,
          .kv_heads = c.kv_heads,
          .head_dim = c.head_dim,
          .window = c.window_of(layer)};
}

Decoder::Decoder(const Model& model, DecoderOptions options)
    : impl_(std::make_unique<Impl>(model, options)) {}
Decoder::Decoder(Decoder&&) noexcept = default;
Decoder::~Decoder() = default;

LossSums Decoder::evaluate(const PackedBatch& batch, const adapter::AdapterSet* adapters) {
  impl_->lay_out(batch);
  auto pass = impl_->pass(nullptr);
  const auto hidden = impl_->forward(adapters, pass, impl_->model.config().layers, nullptr);
  return impl_->head(batch, hidden, nullptr);
}

LossSums Decoder::train(const PackedBatch& batch, const TrainRequest& request) {
  check((request.adapters == nullptr) != (request.full == nullptr),
        "train: give adapters or full gradients");
  check(request.record_weights.size() + 1 == batch.offsets.size(), "train: one weight per record");
  Impl& d = *impl_;
  d.lay_out(batch);
  // No work below the lowest trained linear layer.
  std::size_t first_layer = 0;
  Stage lowest = Stage::kQkv;
  if (request.adapters != nullptr) {
    first_layer = d.model.config().layers;
    lowest = Stage::kNothing;
    for (std::size_t layer = d.model.config().layers; layer-- > 0;) {
      const LayerParts& parts = d.model.layers()[layer];
      const auto has = [&](std::size_t site) {
        return site != kNone && request.adapters->at(site) != nullptr;
      };
      Stage here = Stage::kNothing;
      if (has(parts.down)) here = Stage::kDown;
      if (has(parts.up) || has(parts.gate)) here = Stage::kUp;
      if (has(parts.o)) here = Stage::kOut;
      for (const std::size_t site : parts.qkv) here = has(site) ? Stage::kQkv : here;
      if (here == Stage::kNothing) continue;
      first_layer = layer;
      lowest = here;
    }
  }
  auto pass = d.pass(&request);
  const auto hidden = d.forward(request.adapters, pass, first_layer, nullptr);
  LossSums sums = d.head(batch, hidden, &request);
  d.backward(request, first_layer, lowest);
  return sums;
}

Matrix Decoder::logits(const PackedBatch& batch, const adapter::AdapterSet* adapters) {
  impl_->lay_out(batch);
  auto pass = impl_->pass(nullptr);
  const auto hidden = impl_->forward(adapters, pass, impl_->model.config().layers, nullptr);
  return impl_->all_logits(hidden);
}

Matrix Decoder::extend(KvCache& cache, std::span<const CacheStep> steps,
                       const adapter::AdapterSet* adapters) {
  Impl& d = *impl_;
  std::vector<std::int32_t> tokens;
  std::vector<std::uint32_t> offsets{0};
  d.layout.positions.clear();
  d.layout.segments.clear();
  std::size_t longest = 0;
  for (const CacheStep& step : steps) {
    const std::size_t past = cache.lengths_[step.sequence];
    check(past + step.tokens.size() <= cache.capacity_ && !step.tokens.empty(),
          "extend: beyond the cache's capacity");
    d.layout.segments.push_back({tokens.size(), step.tokens.size(), step.sequence * cache.capacity_,
                                 past + step.tokens.size()});
    for (std::size_t t = 0; t < step.tokens.size(); ++t) {
      d.layout.positions.push_back(static_cast<std::uint32_t>(past + t));
      tokens.push_back(step.tokens[t]);
    }
    offsets.push_back(static_cast<std::uint32_t>(tokens.size()));
    longest = std::max(longest, past + step.tokens.size());
  }
  d.rope.ensure(longest);
  d.layout.tokens = tokens;
  d.layout.record_offsets = offsets;
  auto pass = d.pass(nullptr);
  const auto hidden = d.forward(adapters, pass, d.model.config().layers, &cache);
  Matrix last(steps.size(), d.model.config().hidden);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    std::copy_n(hidden.row(offsets[i + 1] - 1), hidden.cols, last.data() + i * hidden.cols);
    cache.lengths_[steps[i].sequence] += steps[i].tokens.size();
  }
  return d.all_logits(last.view());
}

std::size_t Decoder::buffer_bytes() const {
  const Impl& d = *impl_;
  std::size_t n = 0;
  for (const auto& c : d.caches) {
    for (const Buffer* b : {&c.x, &c.mid, &c.rstd1, &c.mean1, &c.rstd2, &c.mean2, &c.qkv, &c.qk_raw,
                            &c.qk_rstd, &c.attended, &c.lse, &c.gate, &c.up}) {
      n += b->bytes();
    }
    for (const Buffer& b : c.saved) n += b.bytes();
  }
  for (const Buffer* b :
       {&d.hidden, &d.hidden2, &d.normed, &d.inner, &d.inner2, &d.dqkv, &d.dx, &d.dnormed,
        &d.dattended, &d.head_rows, &d.head_normed, &d.head_grad, &d.head_logits}) {
    n += b->bytes();
  }
  return n + 2 * (d.x_half.size() + d.dy_half.size() + d.adapter_halves.size()) +
         4 * d.adapter_floats.size();
}

}  // namespace strata::model

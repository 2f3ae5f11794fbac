#include <algorithm>

#include "model/decoder_impl.h"
#include "model/ops/activation.h"
#include "tensor/parallel.h"

namespace strata::model {

using tensor::ConstMatrixView;
using tensor::MatrixView;

void Decoder::Impl::linear_backward(std::size_t site, ConstMatrixView x, ConstMatrixView dy,
                                    MatrixView d_in, bool accumulate, LayerCache& cache,
                                    const TrainRequest& request,
                                    adapter::AdapterPass& adapter_pass) {
  const LinearSite& where = model.linears()[site];
  const tensor::Operand grad = as_operand(dy, dy_half);
  if (d_in.data != nullptr)
    gemm.multiply(d_in, grad, model.parameters()[where.weight].operand(), accumulate);
  adapter::Adapter* adapter = request.adapters != nullptr ? request.adapters->at(site) : nullptr;
  if (adapter != nullptr) {
    adapter->backward(adapter_pass, as_operand(x, x_half), grad, d_in,
                      cache.saved[site_in_layer(site)].matrix(dy.rows, adapter->saved_width()),
                      request.records, request.adapters->offset(site));
  }
  if (request.full == nullptr) return;
  const tensor::Operand in = as_operand(x, x_half);
  const Parameter& weight = model.parameters()[where.weight];
  const MatrixView dw(request.full->values[where.weight].data(), weight.rows(), weight.cols());
  if (weight.transposed()) {
    gemm.multiply(dw, in.t(), grad, true);
  } else {
    gemm.multiply(dw, grad.t(), in, true);
  }
  if (where.bias != kNone) bias_backward(request.full->values[where.bias].data(), dy);
}

void Decoder::Impl::norm_gradient(std::size_t gain, std::size_t bias, ConstMatrixView dy,
                                  ConstMatrixView x, NormStats stats, MatrixView d_in,
                                  const TrainRequest& request) {
  std::span<float> dgain, dbias;
  if (request.full != nullptr) {
    dgain = request.full->values[gain];
    if (bias != kNone) dbias = request.full->values[bias];
  }
  norm_backward(d_in, dgain, dbias, dy, x, stats, model.parameters()[gain].vector());
}

void Decoder::Impl::mlp_backward(std::size_t layer, LayerCache& cache, const TrainRequest& request,
                                 adapter::AdapterPass& adapter_pass, Stage lowest) {
  const DecoderConfig& c = model.config();
  const LayerParts& parts = model.layers()[layer];
  const std::size_t rows = layout.rows();
  const bool gated = c.mlp == MlpKind::kSwiGlu;
  const MatrixView grad = dx.matrix(rows, c.hidden);
  const MatrixView up = cache.up.matrix(rows, c.intermediate);
  const MatrixView gate = gated ? cache.gate.matrix(rows, c.intermediate) : MatrixView();
  const MatrixView act = inner.matrix(rows, c.intermediate);
  const MatrixView dact =
      lowest < Stage::kDown ? inner2.matrix(rows, c.intermediate) : MatrixView();

  if (gated) {
    swiglu_forward(act, gate, up);
  } else {
    gelu_forward(act, up);
  }
  linear_backward(parts.down, act, grad, dact, false, cache, request, adapter_pass);
  if (lowest == Stage::kDown) return;

  // The activation is no longer needed: its memory takes the gradient of `gate`.
  if (gated) {
    swiglu_backward(act, dact, dact, gate, up);
  } else {
    gelu_backward(dact, dact, up);
  }
  const NormStats stats{cache.rstd2.floats(rows),
                        c.norm == NormKind::kLayer ? cache.mean2.floats(rows) : std::span<float>{}};
  const MatrixView mid = cache.mid.matrix(rows, c.hidden);
  const MatrixView h = normed.matrix(rows, c.hidden);
  const auto parameters = model.parameters();
  norm_apply(
      h, mid, stats, parameters[parts.norm2].vector(),
      parts.norm2_bias != kNone ? parameters[parts.norm2_bias].vector() : std::span<const float>{});
  const MatrixView dh = lowest < Stage::kUp ? dnormed.matrix(rows, c.hidden) : MatrixView();
  linear_backward(parts.up, h, dact, dh, false, cache, request, adapter_pass);
  if (gated) linear_backward(parts.gate, h, act, dh, true, cache, request, adapter_pass);
  if (lowest < Stage::kUp)
    norm_gradient(parts.norm2, parts.norm2_bias, dh, mid, stats, grad, request);
}

void Decoder::Impl::attention_part_backward(std::size_t layer, LayerCache& cache,
                                            const TrainRequest& request,
                                            adapter::AdapterPass& adapter_pass, Stage lowest) {
  const DecoderConfig& c = model.config();
  const LayerParts& parts = model.layers()[layer];
  const std::size_t rows = layout.rows();
  const MatrixView grad = dx.matrix(rows, c.hidden);
  const MatrixView attended = cache.attended.matrix(rows, c.query_width());
  const MatrixView d_attended =
      lowest != Stage::kOut ? dattended.matrix(rows, c.query_width()) : MatrixView();
  linear_backward(parts.o, attended, grad, d_attended, false, cache, request, adapter_pass);
  if (lowest == Stage::kOut) return;

  const MatrixView d_all = dqkv.matrix(rows, c.query_width() + 2 * c.kv_width());
  const MatrixView dq = d_all.cols_from(0, c.query_width());
  const MatrixView dk = d_all.cols_from(c.query_width(), c.kv_width());
  const MatrixView dv = d_all.cols_from(c.query_width() + c.kv_width(), c.kv_width());
  attention_backward(dq, dk, dv, d_attended, attended, cache.lse.matrix(rows, c.heads), q_of(cache),
                     k_of(cache), v_of(cache), layout.segments, attention_shape(layer));
  if (c.position == PositionKind::kRotary) {
    rope_apply(dq, c.head_dim, layout.positions, rope, true);
    rope_apply(dk, c.head_dim, layout.positions, rope, true);
  }
  if (c.qk_norm) {
    // Through RMSNorm of each head: dy is copied out, the gradient lands where it was.
    const std::size_t both = c.heads + c.kv_heads;
    const ConstMatrixView raw(cache.qk_raw.matrix(rows, both * c.head_dim).data, rows * both,
                              c.head_dim);
    const auto rstd = cache.qk_rstd.floats(rows * both);
    std::vector<float> dy(both * c.head_dim);
    for (std::size_t t = 0; t < rows; ++t) {
      const auto part = [&](MatrixView d, std::size_t first, std::size_t heads, std::size_t gain) {
        const MatrixView here(d.row(t), heads, c.head_dim);
        std::copy_n(here.data, heads * c.head_dim, dy.data());
        std::fill_n(here.data, heads * c.head_dim, 0.0f);
        norm_gradient(gain, kNone, ConstMatrixView(dy.data(), heads, c.head_dim),
                      raw.rows_from(t * both + first, heads),
                      {rstd.subspan(t * both + first, heads), {}}, here, request);
      };
      part(dq, 0, c.heads, parts.q_norm);
      part(dk, c.heads, c.kv_heads, parts.k_norm);
    }
  }

  const NormStats stats{cache.rstd1.floats(rows),
                        c.norm == NormKind::kLayer ? cache.mean1.floats(rows) : std::span<float>{}};
  const MatrixView x = caches[layer].x.matrix(rows, c.hidden);
  const MatrixView h = normed.matrix(rows, c.hidden);
  const auto parameters = model.parameters();
  norm_apply(
      h, x, stats, parameters[parts.norm1].vector(),
      parts.norm1_bias != kNone ? parameters[parts.norm1_bias].vector() : std::span<const float>{});
  const bool below = lowest == Stage::kNothing;  // something further down is trained too
  const MatrixView dh = below ? dnormed.matrix(rows, c.hidden) : MatrixView();
  std::size_t column = 0;
  for (const std::size_t site : parts.qkv) {
    const std::size_t width = model.linears()[site].d_out;
    linear_backward(site, h, d_all.cols_from(column, width), dh, column > 0, cache, request,
                    adapter_pass);
    column += width;
  }
  if (below) norm_gradient(parts.norm1, parts.norm1_bias, dh, x, stats, grad, request);
}

void Decoder::Impl::backward_layer(std::size_t layer, const TrainRequest& request,
                                   adapter::AdapterPass& adapter_pass, Stage lowest) {
  LayerCache& cache = options.recompute ? caches.back() : caches[layer];
  if (options.recompute) {
    // The layer's output is not needed again; it goes where the stream of unkept layers lies.
    forward_layer(layer, caches[layer].x.matrix(layout.rows(), model.config().hidden),
                  hidden.matrix(layout.rows(), model.config().hidden), cache, request.adapters,
                  adapter_pass, nullptr);
  }
  mlp_backward(layer, cache, request, adapter_pass,
               lowest == Stage::kNothing ? Stage::kQkv : lowest);
  if (lowest == Stage::kDown || lowest == Stage::kUp) return;
  attention_part_backward(layer, cache, request, adapter_pass, lowest);
}

void Decoder::Impl::embedding_backward(const TrainRequest& request) {
  const MatrixView grad = dx.matrix(layout.rows(), model.config().hidden);
  auto& table = request.full->values[model.embedding()];
  for (std::size_t t = 0; t < grad.rows; ++t) {
    float* row = table.data() + static_cast<std::size_t>(layout.tokens[t]) * grad.cols;
    for (std::size_t i = 0; i < grad.cols; ++i) row[i] += grad.row(t)[i];
  }
  if (model.positions() == kNone) return;
  auto& learned = request.full->values[model.positions()];
  for (std::size_t t = 0; t < grad.rows; ++t) {
    float* row = learned.data() + layout.positions[t] * grad.cols;
    for (std::size_t i = 0; i < grad.cols; ++i) row[i] += grad.row(t)[i];
  }
}

void Decoder::Impl::backward(const TrainRequest& request, std::size_t first_layer, Stage lowest) {
  auto adapter_pass = pass(&request);
  const bool everything = request.full != nullptr;
  for (std::size_t layer = model.config().layers; layer-- > first_layer;) {
    const bool last = layer == first_layer && !everything;
    backward_layer(layer, request, adapter_pass, last ? lowest : Stage::kNothing);
  }
  if (everything) embedding_backward(request);
}

}  // namespace strata::model

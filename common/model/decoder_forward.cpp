#include <algorithm>

#include "model/decoder_impl.h"
#include "model/ops/activation.h"
#include "tensor/parallel.h"

namespace strata::model {

using tensor::ConstMatrixView;
using tensor::MatrixView;

namespace {

void copy_rows(MatrixView out, ConstMatrixView in) {
  tensor::parallel_for(in.rows, 32, [&](std::size_t first, std::size_t last) {
    for (std::size_t t = first; t < last; ++t) std::copy_n(in.row(t), in.cols, out.row(t));
  });
}

}  // namespace

MatrixView Decoder::Impl::q_of(LayerCache& cache) {
  const DecoderConfig& c = model.config();
  return cache.qkv.matrix(layout.rows(), c.query_width() + 2 * c.kv_width())
      .cols_from(0, c.query_width());
}
MatrixView Decoder::Impl::k_of(LayerCache& cache) {
  const DecoderConfig& c = model.config();
  return cache.qkv.matrix(layout.rows(), c.query_width() + 2 * c.kv_width())
      .cols_from(c.query_width(), c.kv_width());
}
MatrixView Decoder::Impl::v_of(LayerCache& cache) {
  const DecoderConfig& c = model.config();
  return cache.qkv.matrix(layout.rows(), c.query_width() + 2 * c.kv_width())
      .cols_from(c.query_width() + c.kv_width(), c.kv_width());
}

std::size_t Decoder::Impl::site_in_layer(std::size_t site) const {
  return site - model.layers()[model.linears()[site].layer]
                    .qkv.front();  // sites of a layer stand in one run
}

void Decoder::Impl::embed(MatrixView x) {
  const Parameter& table = model.parameters()[model.embedding()];
  tensor::parallel_for(x.rows, 32, [&](std::size_t first, std::size_t last) {
    for (std::size_t t = first; t < last; ++t)
      table.copy_row(static_cast<std::size_t>(layout.tokens[t]), x.row(t));
  });
  if (model.positions() == kNone) return;
  const Parameter& learned = model.parameters()[model.positions()];
  std::vector<float> row(x.cols);
  for (std::size_t t = 0; t < x.rows; ++t) {
    learned.copy_row(layout.positions[t], row.data());
    for (std::size_t i = 0; i < x.cols; ++i) x.row(t)[i] += row[i];
  }
}

void Decoder::Impl::linear(std::size_t site, const tensor::Operand& x, MatrixView y,
                           bool accumulate, LayerCache& cache, const adapter::AdapterSet* adapters,
                           adapter::AdapterPass& adapter_pass) {
  const LinearSite& where = model.linears()[site];
  gemm.multiply(y, x, model.parameters()[where.weight].operand().t(), accumulate);
  if (where.bias != kNone) add_bias(y, model.parameters()[where.bias].vector().data());
  const adapter::Adapter* adapter = adapters != nullptr ? adapters->at(site) : nullptr;
  if (adapter == nullptr) return;
  adapter->forward(adapter_pass, x, y,
                   cache.saved[site_in_layer(site)].matrix(y.rows, adapter->saved_width()));
}

void Decoder::Impl::normalise(std::size_t gain, std::size_t bias, ConstMatrixView x, MatrixView y,
                              Buffer& rstd, Buffer& mean) {
  const bool layer_norm = model.config().norm == NormKind::kLayer;
  const NormStats stats{rstd.floats(x.rows), layer_norm ? mean.floats(x.rows) : std::span<float>{}};
  if (layer_norm) {
    layer_norm_stats(stats, x, model.config().norm_epsilon);
  } else {
    rms_norm_stats(stats, x, model.config().norm_epsilon);
  }
  const auto parameters = model.parameters();
  norm_apply(y, x, stats, parameters[gain].vector(),
             bias != kNone ? parameters[bias].vector() : std::span<const float>{});
}

void Decoder::Impl::attend(std::size_t layer, LayerCache& cache, KvCache* kv) {
  const DecoderConfig& c = model.config();
  const MatrixView q = q_of(cache);
  const MatrixView k = k_of(cache);
  const MatrixView v = v_of(cache);
  const std::size_t rows = layout.rows();
  if (c.qk_norm) {
    // Each head of q and k is a row of width d: T * (H + H_kv) rows, gathered so that the raw
    // values stay for backward.
    const std::size_t both = c.heads + c.kv_heads;
    const LayerParts& parts = model.layers()[layer];
    const MatrixView raw = cache.qk_raw.matrix(rows, both * c.head_dim);
    copy_rows(raw.cols_from(0, q.cols), q);
    copy_rows(raw.cols_from(q.cols, k.cols), k);
    const auto rstd = cache.qk_rstd.floats(rows * both);
    const ConstMatrixView per_head(raw.data, rows * both, c.head_dim);
    rms_norm_stats({rstd, {}}, per_head, c.norm_epsilon);
    for (std::size_t t = 0; t < rows; ++t) {
      const auto part = [&](MatrixView out, std::size_t first, std::size_t heads,
                            std::size_t gain) {
        norm_apply(
            MatrixView(out.row(t), heads, c.head_dim), per_head.rows_from(t * both + first, heads),
            {rstd.subspan(t * both + first, heads), {}}, model.parameters()[gain].vector(), {});
      };
      part(q, 0, c.heads, parts.q_norm);
      part(k, c.heads, c.kv_heads, parts.k_norm);
    }
  }
  if (c.position == PositionKind::kRotary) {
    rope_apply(q, c.head_dim, layout.positions, rope, false);
    rope_apply(k, c.head_dim, layout.positions, rope, false);
  }
  const MatrixView out = cache.attended.matrix(rows, c.query_width());
  if (kv == nullptr) {
    attention_forward(out, cache.lse.matrix(rows, c.heads), q, k, v, layout.segments,
                      attention_shape(layer));
    return;
  }
  for (const AttentionSegment& s : layout.segments) {
    const std::size_t first = s.k_first + s.k_count - s.q_count;
    copy_rows(kv->k_[layer].view().rows_from(first, s.q_count), k.rows_from(s.q_first, s.q_count));
    copy_rows(kv->v_[layer].view().rows_from(first, s.q_count), v.rows_from(s.q_first, s.q_count));
  }
  attention_forward(out, MatrixView(), q, kv->k_[layer].view(), kv->v_[layer].view(),
                    layout.segments, attention_shape(layer));
}

void Decoder::Impl::forward_layer(std::size_t layer, ConstMatrixView x, MatrixView out,
                                  LayerCache& cache, const adapter::AdapterSet* adapters,
                                  adapter::AdapterPass& adapter_pass, KvCache* kv) {
  const DecoderConfig& c = model.config();
  const LayerParts& parts = model.layers()[layer];
  const std::size_t rows = layout.rows();
  const MatrixView h = normed.matrix(rows, c.hidden);

  normalise(parts.norm1, parts.norm1_bias, x, h, cache.rstd1, cache.mean1);
  {
    const auto in = as_operand(h, x_half);
    const MatrixView qkv = cache.qkv.matrix(rows, c.query_width() + 2 * c.kv_width());
    std::size_t column = 0;
    for (const std::size_t site : parts.qkv) {
      const std::size_t width = model.linears()[site].d_out;
      linear(site, in, qkv.cols_from(column, width), false, cache, adapters, adapter_pass);
      column += width;
    }
  }
  attend(layer, cache, kv);
  const MatrixView mid = cache.mid.matrix(rows, c.hidden);
  copy_rows(mid, x);
  linear(parts.o, as_operand(cache.attended.matrix(rows, c.query_width()), x_half), mid, true,
         cache, adapters, adapter_pass);

  normalise(parts.norm2, parts.norm2_bias, mid, h, cache.rstd2, cache.mean2);
  const MatrixView up = cache.up.matrix(rows, c.intermediate);
  const MatrixView act = inner.matrix(rows, c.intermediate);
  {
    const auto in = as_operand(h, x_half);
    linear(parts.up, in, up, false, cache, adapters, adapter_pass);
    if (c.mlp == MlpKind::kSwiGlu) {
      const MatrixView gate = cache.gate.matrix(rows, c.intermediate);
      linear(parts.gate, in, gate, false, cache, adapters, adapter_pass);
      swiglu_forward(act, gate, up);
    } else {
      gelu_forward(act, up);
    }
  }
  copy_rows(out, mid);
  linear(parts.down, as_operand(act, x_half), out, true, cache, adapters, adapter_pass);
}

MatrixView Decoder::Impl::forward(const adapter::AdapterSet* adapters,
                                  adapter::AdapterPass& adapter_pass, std::size_t first_kept,
                                  KvCache* kv) {
  const DecoderConfig& c = model.config();
  const std::size_t rows = layout.rows();
  const auto stream_of = [&](std::size_t layer) {  // where the input of `layer` lives
    if (layer >= first_kept && layer < c.layers) return caches[layer].x.matrix(rows, c.hidden);
    return (layer % 2 == 0 ? hidden : hidden2).matrix(rows, c.hidden);
  };
  embed(stream_of(0));
  for (std::size_t layer = 0; layer < c.layers; ++layer) {
    const bool keep = layer >= first_kept && !options.recompute;
    forward_layer(layer, stream_of(layer), stream_of(layer + 1),
                  keep ? caches[layer] : caches.back(), adapters, adapter_pass, kv);
  }
  return stream_of(c.layers);
}

}  // namespace strata::model

#include <algorithm>

#include "model/decoder_impl.h"
#include "model/ops/activation.h"

namespace strata::model {

using tensor::ConstMatrixView;
using tensor::DType;
using tensor::MatrixView;
using tensor::TypedRows;

namespace {

void copy_rows(MatrixView out, ConstMatrixView in) {
  for (std::size_t t = 0; t < in.rows; ++t) std::copy_n(in.row(t), in.cols, out.row(t));
}

}  // namespace

LayerCache& Decoder::Impl::cache_of(std::size_t layer) {
  return layer >= pass.first_kept && !options.recompute ? work.caches[layer] : work.scratch;
}

MatrixView Decoder::Impl::stream_of(std::size_t layer) {
  const DecoderConfig& c = model.config();
  if (layer >= pass.first_kept && layer < c.layers)
    return work.caches[layer].x.matrix(layout.rows(), c.hidden);
  return (layer % 2 == 0 ? work.hidden : work.hidden2).matrix(layout.rows(), c.hidden);
}

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
// Where attention leaves its floats.
MatrixView Decoder::Impl::attended_of(LayerCache& cache) {
  return (compute() == DType::kF32 ? cache.attended : work.attended)
      .matrix(layout.rows(), model.config().query_width());
}

std::size_t Decoder::Impl::site_in_layer(std::size_t site) const {
  // Sites of a layer stand in one run.
  return site - model.layers()[model.linears()[site].layer].qkv.front();
}

// x = W p + b of each patch, the class row in place of the first, and the positions.
void Decoder::Impl::embed_patches(Member& m, Block rows, MatrixView x) {
  const PatchGrid& grid = *model.config().patches;
  const std::size_t each = model.config().max_positions;  // rows of an image
  const TypedRows patches = patches_of(rows);
  for (std::size_t t = 0; t < rows.count; ++t) {
    const std::size_t row = rows.first + t;
    float* values = patches.open(t, m.rows.floats(grid.width()).data());
    if (layout.positions[row] == 0) {
      std::fill_n(values, grid.width(), 0.0f);
    } else {
      const std::size_t patch = row / each * grid.count() + layout.positions[row] - 1;
      const std::uint8_t* in = layout.pixels.data() + patch * grid.width();
      for (std::size_t i = 0; i < grid.width(); ++i)
        values[i] = static_cast<float>(in[i]) * (2.0f / 255.0f) - 1.0f;
    }
    patches.close(t, values);
  }
  const std::size_t spare = spare_rows(rows);
  const tensor::Operand in = patches;
  product(m, x.more_rows(spare), in.more_rows(spare),
          model.parameters()[model.embedding()].operand().t(), false, "base product");
  const auto bias = model.parameters()[model.patch_bias()].vector();
  const Parameter& learned = model.parameters()[model.positions()];
  float* position = m.rows.floats(x.cols).data();
  for (std::size_t t = 0; t < rows.count; ++t) {
    const std::size_t at = layout.positions[rows.first + t];
    float* out = x.row(t);
    if (at == 0) {
      model.parameters()[model.class_token()].copy_row(0, out);
    } else {
      for (std::size_t i = 0; i < x.cols; ++i) out[i] += bias[i];
    }
    learned.copy_row(at, position);
    for (std::size_t i = 0; i < x.cols; ++i) out[i] += position[i];
  }
}

TypedRows Decoder::Impl::patches_of(Block rows) {
  return work.patches.typed(layout.rows(), model.config().patches->width(), compute())
      .rows_from(rows.first, rows.count);
}

void Decoder::Impl::embed(Member& m, Block rows, MatrixView x) {
  if (model.config().patches) return embed_patches(m, rows, x.rows_from(rows.first, rows.count));
  const Parameter& table = model.parameters()[model.embedding()];
  for (std::size_t t = rows.first; t < rows.first + rows.count; ++t)
    table.copy_row(static_cast<std::size_t>(layout.tokens[t]), x.row(t));
  if (model.positions() == kNone) return;
  const Parameter& learned = model.parameters()[model.positions()];
  std::vector<float> row(x.cols);
  for (std::size_t t = rows.first; t < rows.first + rows.count; ++t) {
    learned.copy_row(layout.positions[t], row.data());
    for (std::size_t i = 0; i < x.cols; ++i) x.row(t)[i] += row[i];
  }
}

void Decoder::Impl::linear(Member& m, std::size_t site, Block rows, const tensor::Operand& x,
                           MatrixView y, bool accumulate, LayerCache& cache) {
  const LinearSite& where = model.linears()[site];
  const std::size_t spare = spare_rows(rows);
  product(m, y.more_rows(spare), x.more_rows(spare), model.parameters()[where.weight].operand().t(),
          accumulate, "base product");
  if (where.bias != kNone) add_bias(y, model.parameters()[where.bias].vector().data());
  if (sites[site] == nullptr) return;
  const sys::Span span(m.timeline, "adapter",
                       2.0 * static_cast<double>(y.rows * sites[site]->rank()) *
                           static_cast<double>(where.d_in + where.d_out));
  auto lent = adapter_pass(m, rows.first);
  const MatrixView saved =
      cache.saved[site_in_layer(site)].matrix(layout.rows(), sites[site]->saved_width());
  sites[site]->forward(lent, x, y, saved.rows_from(rows.first, rows.count));
}

void Decoder::Impl::norm_and_turn(Member& m, std::size_t layer, Block rows, LayerCache& cache) {
  const DecoderConfig& c = model.config();
  const MatrixView q = q_of(cache).rows_from(rows.first, rows.count);
  const MatrixView k = k_of(cache).rows_from(rows.first, rows.count);
  if (c.qk_norm) {
    // Each head of q and k is a row of width d. The raw values stay for the backward pass.
    const std::size_t both = c.heads + c.kv_heads;
    const LayerParts& parts = model.layers()[layer];
    const MatrixView raw =
        cache.qk_raw.matrix(layout.rows(), both * c.head_dim).rows_from(rows.first, rows.count);
    const auto rstd = cache.qk_rstd.floats(layout.rows() * both).subspan(rows.first * both);
    copy_rows(raw.cols_from(0, q.cols), q);
    copy_rows(raw.cols_from(q.cols, k.cols), k);
    for (std::size_t t = 0; t < rows.count; ++t) {
      const auto part = [&](MatrixView out, std::size_t first, std::size_t heads,
                            std::size_t gain) {
        norm_forward(MatrixView(out.row(t), heads, c.head_dim),
                     {rstd.subspan(t * both + first, heads), {}},
                     ConstMatrixView(raw.row(t) + first * c.head_dim, heads, c.head_dim),
                     norm_weights(gain, kNone), m.rows.floats(c.head_dim).data());
      };
      part(q, 0, c.heads, parts.q_norm);
      part(k, c.heads, c.kv_heads, parts.k_norm);
    }
  }
  if (c.position != PositionKind::kRotary) return;
  const auto positions = std::span<const std::uint32_t>(layout.positions).subspan(rows.first);
  rope_apply(q, c.head_dim, positions, rope, false);
  rope_apply(k, c.head_dim, positions, rope, false);
}

// The first half of a layer up to attention: norm, q, k, v.
void Decoder::Impl::attention_input(Member& m, std::size_t layer, Block rows) {
  const DecoderConfig& c = model.config();
  const LayerParts& parts = model.layers()[layer];
  LayerCache& cache = cache_of(layer);
  const MatrixView x = stream_of(layer).rows_from(rows.first, rows.count);
  const TypedRows h = m.normed.typed(rows.count, c.hidden, compute());
  {
    const sys::Span span(m.timeline, "norm", 0.0);
    norm_forward(h, norm_stats(cache.rstd1, cache.mean1, rows), x,
                 norm_weights(parts.norm1, parts.norm1_bias), m.rows.floats(c.hidden).data());
  }
  const MatrixView qkv = cache.qkv.matrix(layout.rows(), c.query_width() + 2 * c.kv_width())
                             .rows_from(rows.first, rows.count);
  std::size_t column = 0;
  for (const std::size_t site : parts.qkv) {
    const std::size_t width = model.linears()[site].d_out;
    linear(m, site, rows, h, qkv.cols_from(column, width), false, cache);
    column += width;
  }
  const sys::Span span(m.timeline, "rotary", 0.0);
  norm_and_turn(m, layer, rows, cache);
}

void Decoder::Impl::attend(std::size_t layer) {
  const DecoderConfig& c = model.config();
  LayerCache& cache = cache_of(layer);
  const AttentionShape shape = attention_shape(layer);
  AttentionInput in{q_of(cache), k_of(cache), v_of(cache),
                    cache.lse.matrix(layout.rows(), c.heads)};
  if (pass.kv != nullptr) {
    const MatrixView k = pass.kv->k_[layer].view();
    const MatrixView v = pass.kv->v_[layer].view();
    for (const AttentionSegment& s : layout.segments) {
      const std::size_t first = s.k_first + s.k_count - s.q_count;
      copy_rows(k.rows_from(first, s.q_count), k_of(cache).rows_from(s.q_first, s.q_count));
      copy_rows(v.rows_from(first, s.q_count), v_of(cache).rows_from(s.q_first, s.q_count));
    }
    in.k = k;
    in.v = v;
    in.lse = MatrixView();
  }
  const MatrixView out = attended_of(cache);
  work.team.for_tasks(layout.attention.size(), [&](std::size_t i, int member) {
    Member& m = work.members[static_cast<std::size_t>(member)];
    const AttentionTask& task = layout.attention[i];
    const sys::Span span(m.timeline, "attention", 0.0);
    attention_forward(out, in, layout.segments[task.segment], task, shape, attention_tools(m));
  });
}

// The rest of the layer: attention's output layer, then the MLP. out: the block's rows of the next
// layer's input.
void Decoder::Impl::attention_output(Member& m, std::size_t layer, Block rows, MatrixView out) {
  const DecoderConfig& c = model.config();
  const LayerParts& parts = model.layers()[layer];
  LayerCache& cache = cache_of(layer);
  const std::size_t n = layout.rows();
  const bool f32 = compute() == DType::kF32;
  const TypedRows attended =
      cache.attended.typed(n, c.query_width(), compute()).rows_from(rows.first, rows.count);
  const MatrixView mid = cache.mid.matrix(n, c.hidden).rows_from(rows.first, rows.count);
  {
    const sys::Span span(m.timeline, "copy", 0.0);
    if (!f32) attended.take(attended_of(cache).rows_from(rows.first, rows.count));
    copy_rows(mid, stream_of(layer).rows_from(rows.first, rows.count));
  }
  linear(m, parts.o, rows, attended, mid, true, cache);

  const TypedRows h = m.normed.typed(rows.count, c.hidden, compute());
  {
    const sys::Span span(m.timeline, "norm", 0.0);
    norm_forward(h, norm_stats(cache.rstd2, cache.mean2, rows), mid,
                 norm_weights(parts.norm2, parts.norm2_bias), m.rows.floats(c.hidden).data());
  }
  // Products leave floats: in f32 where they are kept, else beside, rounded when both are there.
  const auto floats_of = [&](Buffer& kept, Buffer& own) {
    return f32 ? kept.matrix(n, c.intermediate).rows_from(rows.first, rows.count)
               : own.matrix(rows.count, c.intermediate);
  };
  const auto keep = [&](Buffer& kept, ConstMatrixView values) {
    if (f32 || layer < pass.first_kept) return;
    kept.typed(n, c.intermediate, compute()).rows_from(rows.first, rows.count).take(values);
  };
  const bool gated = c.mlp == MlpKind::kSwiGlu;
  const MatrixView up = floats_of(cache.up, m.up);
  const MatrixView gate = gated ? floats_of(cache.gate, m.gate) : MatrixView();
  const TypedRows act = m.act.typed(rows.count, c.intermediate, compute());
  if (gated) linear(m, parts.gate, rows, h, gate, false, cache);
  linear(m, parts.up, rows, h, up, false, cache);
  {
    const sys::Span span(m.timeline, "activation", 0.0);
    float* scratch = m.rows.floats(kActivationScratch * c.intermediate).data();
    if (gated) {
      swiglu_forward(act, gate, up, scratch);
      keep(cache.gate, gate);
    } else {
      gelu_forward(gelu_form(c.mlp), act, up, scratch);
    }
    keep(cache.up, up);
    copy_rows(out, mid);
  }
  linear(m, parts.down, rows, act, out, true, cache);
}

MatrixView Decoder::Impl::forward() {
  const std::size_t layers = model.config().layers;
  over_blocks([&](Block rows, Member& m) {
    embed(m, rows, stream_of(0));
    attention_input(m, 0, rows);
  });
  for (std::size_t layer = 0; layer < layers; ++layer) {
    attend(layer);
    over_blocks([&](Block rows, Member& m) {
      attention_output(m, layer, rows, stream_of(layer + 1).rows_from(rows.first, rows.count));
      if (layer + 1 < layers) attention_input(m, layer + 1, rows);
    });
  }
  return stream_of(layers);
}

}  // namespace strata::model

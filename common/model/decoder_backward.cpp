#include <algorithm>

#include "model/decoder_impl.h"
#include "model/ops/activation.h"

namespace strata::model {

using tensor::ConstMatrixView;
using tensor::DType;
using tensor::MatrixView;
using tensor::TypedRows;

// For layer l the phases are
//   rows     [the attention half of layer l + 1] and the MLP half of l: input gradients
//   tasks    attention of l; gradients of the weights and adapters whose inputs are ready
// and so on downwards, until the lowest trained layer.

void Decoder::Impl::linear_backward(Member& m, std::size_t site, Block rows,
                                    const tensor::Operand& dy, MatrixView d_in, bool accumulate) {
  const LinearSite& where = model.linears()[site];
  const std::size_t spare = spare_rows(rows);
  if (d_in.data != nullptr)
    product(m, d_in.more_rows(spare), dy.more_rows(spare),
            model.parameters()[where.weight].operand(), accumulate, "base product");
  if (sites[site] == nullptr) return;
  const sys::Span span(m.timeline, "adapter",
                       2.0 * static_cast<double>(dy.rows * sites[site]->rank()) *
                           static_cast<double>(where.d_in + where.d_out));
  auto lent = adapter_pass(m, rows.first);
  const MatrixView through =
      work.through[site_in_layer(site)].matrix(layout.rows(), sites[site]->saved_width());
  sites[site]->backward_input(lent, dy, d_in, through.rows_from(rows.first, rows.count));
}

// From the gradient of the layer's output (dx) to that of its middle (dmid) and of what attention
// gave (d_attended), as far down as `lowest` asks.
void Decoder::Impl::mlp_backward(Member& m, std::size_t layer, Block rows, Stage lowest) {
  const DecoderConfig& c = model.config();
  const LayerParts& parts = model.layers()[layer];
  LayerCache& cache = cache_of(layer);
  const std::size_t n = layout.rows();
  const DType type = compute();
  const auto here = [&](auto whole) { return whole.rows_from(rows.first, rows.count); };
  const bool gated = c.mlp == MlpKind::kSwiGlu;
  float* scratch = m.rows.floats(kActivationScratch * c.intermediate).data();

  const MatrixView dx = here(work.dx.matrix(n, c.hidden));
  const TypedRows dy =
      type == DType::kF32 ? TypedRows(dx) : here(work.dx_typed.typed(n, c.hidden, type));
  if (type != DType::kF32) dy.take(dx);
  const TypedRows up = here(cache.up.typed(n, c.intermediate, type));
  const TypedRows gate = gated ? here(cache.gate.typed(n, c.intermediate, type)) : TypedRows();
  const TypedRows act = here(work.act.typed(n, c.intermediate, type));
  if (lowest == Stage::kDown) {
    linear_backward(m, parts.down, rows, dy, MatrixView(), false);
    gated ? swiglu_again(act, gate, up, scratch) : gelu_again(gelu_form(c.mlp), act, up, scratch);
    return;
  }
  const MatrixView dact = m.gate.matrix(rows.count, c.intermediate);
  linear_backward(m, parts.down, rows, dy, dact, false);
  const TypedRows dup = here(work.dup.typed(n, c.intermediate, type));
  const TypedRows dgate = gated ? here(work.dgate.typed(n, c.intermediate, type)) : TypedRows();
  const MatrixView mid = here(cache.mid.matrix(n, c.hidden));
  const NormStats stats = norm_stats(cache.rstd2, cache.mean2, rows);
  const NormWeights weights = norm_weights(parts.norm2, parts.norm2_bias);
  {
    const sys::Span span(m.timeline, "activation", 0.0);
    if (gated) {
      swiglu_backward(act, dgate, dup, dact, gate, up, scratch);
    } else {
      gelu_backward(gelu_form(c.mlp), act, dup, dact, up, scratch);
    }
    norm_apply(here(work.h2.typed(n, c.hidden, type)), stats, mid, weights, scratch);
  }
  const MatrixView dh = lowest < Stage::kUp ? m.dh.matrix(rows.count, c.hidden) : MatrixView();
  linear_backward(m, parts.up, rows, dup, dh, false);
  if (gated) linear_backward(m, parts.gate, rows, dgate, dh, true);
  if (lowest == Stage::kUp) return;

  const MatrixView dmid = here(work.dmid.matrix(n, c.hidden));
  const TypedRows dmid_typed =
      type == DType::kF32 ? TypedRows(dmid) : here(work.dmid_typed.typed(n, c.hidden, type));
  {
    const sys::Span span(m.timeline, "norm", 0.0);
    norm_backward(dmid, dx, dh, mid, stats, weights);
    norm_gradient(1, rows, dh, mid, stats, weights);
    if (type != DType::kF32) dmid_typed.take(dmid);
  }
  if (lowest == Stage::kOut) {
    linear_backward(m, parts.o, rows, dmid_typed, MatrixView(), false);
    return;
  }
  const MatrixView d_attended = here(work.d_attended.matrix(n, c.query_width()));
  linear_backward(m, parts.o, rows, dmid_typed, d_attended, false);
  const sys::Span span(m.timeline, "attention", 0.0);
  const TypedRows attended = here(cache.attended.typed(n, c.query_width(), type));
  const MatrixView dots = here(work.dots.matrix(n, c.heads));
  for (std::size_t t = 0; t < rows.count; ++t)
    attention_dots(dots.row(t), d_attended.row(t), attended.read(t, scratch),
                   attention_shape(layer));
}

TypedRows Decoder::Impl::dqkv_of(std::size_t layer, std::size_t column, std::size_t width) {
  const DecoderConfig& c = model.config();
  const std::size_t all = c.query_width() + 2 * c.kv_width();
  const std::size_t n = layout.rows();
  const TypedRows whole = compute() == DType::kF32 ? TypedRows(work.dqkv[layer % 2].matrix(n, all))
                                                   : work.dqkv_typed.typed(n, all, compute());
  return whole.cols_from(column, width);
}

void Decoder::Impl::qk_norm_backward(Member& m, std::size_t layer, Block rows, LayerCache& cache,
                                     MatrixView dq, MatrixView dk) {
  // Through RMSNorm of each head: dy is copied out, the gradient lands where it was.
  const DecoderConfig& c = model.config();
  const LayerParts& parts = model.layers()[layer];
  const std::size_t both = c.heads + c.kv_heads;
  const MatrixView raw =
      cache.qk_raw.matrix(layout.rows(), both * c.head_dim).rows_from(rows.first, rows.count);
  const auto rstd = cache.qk_rstd.floats(layout.rows() * both).subspan(rows.first * both);
  float* dy = m.rows.floats(both * c.head_dim).data();
  for (std::size_t t = 0; t < rows.count; ++t) {
    const auto part = [&](int which, MatrixView d, std::size_t first, std::size_t heads,
                          std::size_t gain) {
      const MatrixView here(d.row(t), heads, c.head_dim);
      const ConstMatrixView given(dy, heads, c.head_dim);
      const ConstMatrixView x(raw.row(t) + first * c.head_dim, heads, c.head_dim);
      const NormStats stats{rstd.subspan(t * both + first, heads), {}};
      const NormWeights weights = norm_weights(gain, kNone);
      std::copy_n(here.data, heads * c.head_dim, dy);
      std::fill_n(here.data, heads * c.head_dim, 0.0f);
      norm_backward(here, here, given, x, stats, weights);
      norm_gradient(which, rows, given, x, stats, weights);
    };
    part(2, dq, 0, c.heads, parts.q_norm);
    part(3, dk, c.heads, c.kv_heads, parts.k_norm);
  }
}

// From the gradients of q, k and v to that of the layer's input (dx), if anything `below` wants it.
void Decoder::Impl::attention_backward_rows(Member& m, std::size_t layer, Block rows, bool below) {
  const DecoderConfig& c = model.config();
  const LayerParts& parts = model.layers()[layer];
  LayerCache& cache = cache_of(layer);
  const std::size_t n = layout.rows();
  const DType type = compute();
  const auto here = [&](auto whole) { return whole.rows_from(rows.first, rows.count); };
  const std::size_t all = c.query_width() + 2 * c.kv_width();
  const MatrixView d_all = here(work.dqkv[layer % 2].matrix(n, all));
  const MatrixView dq = d_all.cols_from(0, c.query_width());
  const MatrixView dk = d_all.cols_from(c.query_width(), c.kv_width());
  const MatrixView x = here(work.caches[layer].x.matrix(n, c.hidden));
  const NormStats stats = norm_stats(cache.rstd1, cache.mean1, rows);
  const NormWeights weights = norm_weights(parts.norm1, parts.norm1_bias);
  {
    const sys::Span span(m.timeline, "rotary", 0.0);
    if (c.position == PositionKind::kRotary) {
      const auto positions = std::span<const std::uint32_t>(layout.positions).subspan(rows.first);
      rope_apply(dq, c.head_dim, positions, rope, true);
      rope_apply(dk, c.head_dim, positions, rope, true);
    }
    if (c.qk_norm) qk_norm_backward(m, layer, rows, cache, dq, dk);
    if (type != DType::kF32) here(work.dqkv_typed.typed(n, all, type)).take(d_all);
    norm_apply(here(work.h1.typed(n, c.hidden, type)), stats, x, weights,
               m.rows.floats(c.hidden).data());
  }
  const MatrixView dh = below ? m.dh.matrix(rows.count, c.hidden) : MatrixView();
  std::size_t column = 0;
  for (const std::size_t site : parts.qkv) {
    const std::size_t width = model.linears()[site].d_out;
    linear_backward(m, site, rows, here(dqkv_of(layer, column, width)), dh, column > 0);
    column += width;
  }
  if (!below) return;
  const sys::Span span(m.timeline, "norm", 0.0);
  norm_backward(here(work.dx.matrix(n, c.hidden)), here(work.dmid.matrix(n, c.hidden)), dh, x,
                stats, weights);
  norm_gradient(0, rows, dh, x, stats, weights);
}

// The layer's output is not needed again; it goes where the stream of unkept layers lies.
void Decoder::Impl::run_layer_again(std::size_t layer) {
  const MatrixView out = work.hidden.matrix(layout.rows(), model.config().hidden);
  over_blocks([&](Block rows, Member& m) { attention_input(m, layer, rows); });
  attend(layer);
  over_blocks([&](Block rows, Member& m) {
    attention_output(m, layer, rows, out.rows_from(rows.first, rows.count));
  });
}

void Decoder::Impl::backward(std::size_t first_layer, Stage lowest_stage) {
  const std::size_t layers = model.config().layers;
  const bool everything = pass.request->full != nullptr;
  const auto lowest_of = [&](std::size_t layer) {
    return layer == first_layer && !everything ? lowest_stage : Stage::kQkv;
  };
  const auto below = [&](std::size_t layer) { return layer > first_layer || everything; };
  const auto finish_attention = [&](std::size_t layer, Block rows, Member& m) {
    attention_backward_rows(m, layer, rows, below(layer));
  };
  const auto norm1_done = [&](std::size_t layer) {
    const LayerParts& parts = model.layers()[layer];
    end_norm_partials(0, parts.norm1, parts.norm1_bias);
    end_norm_partials(2, parts.q_norm, kNone);
    end_norm_partials(3, parts.k_norm, kNone);
  };
  for (std::size_t layer = layers; layer-- > first_layer;) {
    const bool pending = layer + 1 < layers;  // the attention half of the layer above
    begin_norm_partials(0, model.config().hidden);
    begin_norm_partials(1, model.config().hidden);
    begin_norm_partials(2, model.config().head_dim);
    begin_norm_partials(3, model.config().head_dim);
    if (options.recompute) {
      // The layer above is finished before its place is taken.
      if (pending) {
        over_blocks([&](Block rows, Member& m) { finish_attention(layer + 1, rows, m); });
        queue_gradients(layer + 1, Stage::kQkv, Stage::kQkv);
        run_tasks(kNone);
      }
      run_layer_again(layer);
    }
    over_blocks([&](Block rows, Member& m) {
      if (pending && !options.recompute) finish_attention(layer + 1, rows, m);
      mlp_backward(m, layer, rows, lowest_of(layer));
    });
    if (pending) norm1_done(layer + 1);
    end_norm_partials(1, model.layers()[layer].norm2, model.layers()[layer].norm2_bias);
    if (pending && !options.recompute) queue_gradients(layer + 1, Stage::kQkv, Stage::kQkv);
    queue_gradients(layer, std::max(lowest_of(layer), Stage::kOut), Stage::kDown);
    run_tasks(lowest_of(layer) == Stage::kQkv ? layer : kNone);
  }
  if (first_layer == layers || lowest_of(first_layer) != Stage::kQkv) return;
  begin_norm_partials(0, model.config().hidden);
  begin_norm_partials(2, model.config().head_dim);
  begin_norm_partials(3, model.config().head_dim);
  over_blocks([&](Block rows, Member& m) { finish_attention(first_layer, rows, m); });
  norm1_done(first_layer);
  queue_gradients(first_layer, Stage::kQkv, Stage::kQkv);
  run_tasks(kNone);
  if (everything) embedding_backward();
}

}  // namespace strata::model

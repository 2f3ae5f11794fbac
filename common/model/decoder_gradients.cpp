#include <algorithm>

#include "model/decoder_impl.h"
#include "model/ops/activation.h"

namespace strata::model {

using tensor::ConstMatrixView;
using tensor::MatrixView;
using tensor::TypedRows;

namespace {

// Rows of a weight's gradient that one task computes: enough tasks for the threads, each a product
// of a good size.
constexpr std::size_t kWeightRows = 512;

}  // namespace

void Decoder::Impl::queue_site(std::size_t site, const TypedRows& x, const TypedRows& dy,
                               LayerCache& cache) {
  if (site == kNone) return;
  if (sites[site] != nullptr) {
    for (std::size_t part = 0; part < sites[site]->parts(); ++part)
      waiting.push_back({.site = site, .part = part, .x = x, .dy = dy, .cache = &cache});
  }
  const auto* full = pass.request->full;
  const LinearSite& where = model.linears()[site];
  if (full == nullptr) return;
  if (where.bias != kNone && full->wanted(where.bias))
    waiting.push_back({.site = site, .bias = true, .x = x, .dy = dy, .cache = &cache});
  if (!full->wanted(where.weight)) return;
  const Parameter& weight = model.parameters()[where.weight];
  for (std::size_t first = 0; first < weight.rows(); first += kWeightRows) {
    waiting.push_back({.site = site,
                       .part = first,
                       .count = std::min(kWeightRows, weight.rows() - first),
                       .x = x,
                       .dy = dy,
                       .cache = &cache});
  }
}

// What the sites of stages [from, to] of a layer need is in place: their gradients may be computed.
void Decoder::Impl::queue_gradients(std::size_t layer, Stage from, Stage to) {
  const DecoderConfig& c = model.config();
  const LayerParts& parts = model.layers()[layer];
  LayerCache& cache = cache_of(layer);
  const std::size_t n = layout.rows();
  const tensor::DType type = compute();
  const bool f32 = type == tensor::DType::kF32;
  const auto wanted = [&](Stage stage) { return from <= stage && stage <= to; };
  if (wanted(Stage::kDown)) {
    queue_site(parts.down, work.act.typed(n, c.intermediate, type),
               (f32 ? work.dx : work.dx_typed).typed(n, c.hidden, type), cache);
  }
  if (wanted(Stage::kUp)) {
    const TypedRows h = work.h2.typed(n, c.hidden, type);
    queue_site(parts.up, h, work.dup.typed(n, c.intermediate, type), cache);
    if (parts.gate != kNone)
      queue_site(parts.gate, h, work.dgate.typed(n, c.intermediate, type), cache);
  }
  if (wanted(Stage::kOut)) {
    queue_site(parts.o, cache.attended.typed(n, c.query_width(), type),
               (f32 ? work.dmid : work.dmid_typed).typed(n, c.hidden, type), cache);
  }
  if (!wanted(Stage::kQkv)) return;
  std::size_t column = 0;
  for (const std::size_t site : parts.qkv) {
    const std::size_t width = model.linears()[site].d_out;
    queue_site(site, work.h1.typed(n, c.hidden, type), dqkv_of(layer, column, width), cache);
    column += width;
  }
}

void Decoder::Impl::run_gradient(const GradientTask& task, Member& m) {
  const LinearSite& where = model.linears()[task.site];
  if (task.bias) {
    auto& sum = pass.request->full->values[where.bias];
    float* scratch = m.rows.floats(task.dy.cols).data();
    for (std::size_t t = 0; t < task.dy.rows; ++t)
      bias_backward(sum.data(), ConstMatrixView(task.dy.read(t, scratch), 1, task.dy.cols));
    return;
  }
  if (task.count == 0) {
    // The pass only lends adapters for reading; the request is where gradients go.
    adapter::Adapter& adapter = *pass.request->adapters->at(task.site);
    const std::size_t in_layer = site_in_layer(task.site);
    const std::size_t rows = layout.rows();
    const std::size_t width = adapter.saved_width();
    const sys::Span span(m.timeline, "adapter gradient",
                         2.0 * static_cast<double>(rows * adapter.rank()) *
                             static_cast<double>(where.d_in + where.d_out) /
                             static_cast<double>(adapter.parts()));
    auto lent = adapter_pass(m, 0);
    adapter.backward_factors(lent, task.part, task.x, task.dy,
                             task.cache->saved[in_layer].matrix(rows, width),
                             work.through[in_layer].matrix(rows, width), pass.request->records,
                             pass.request->adapters->offset(task.site));
    return;
  }
  const sys::Span span(
      m.timeline, "weight gradient",
      2.0 * static_cast<double>(layout.rows()) * static_cast<double>(where.d_in * where.d_out));
  const Parameter& weight = model.parameters()[where.weight];
  auto& full = pass.request->full->values;
  const MatrixView dw = MatrixView(full[where.weight].data(), weight.rows(), weight.cols())
                            .rows_from(task.part, task.count);
  const tensor::Operand left = weight.transposed() ? task.x.cols_from(task.part, task.count)
                                                   : task.dy.cols_from(task.part, task.count);
  m.gemm.multiply(dw, left.t(), weight.transposed() ? task.dy : task.x, true);
}

void Decoder::Impl::run_tasks(std::size_t attention_layer) {
  const DecoderConfig& c = model.config();
  const std::size_t n = layout.rows();
  // Whole records here: dk and dv sum over a record's queries. In the order of the forward pieces,
  // the dearest first.
  std::size_t pieces = 0;
  AttentionInput in;
  MatrixView dq, dk, dv;
  AttentionShape shape;
  if (attention_layer != kNone) {
    LayerCache& cache = cache_of(attention_layer);
    shape = attention_shape(attention_layer);
    in = {q_of(cache), k_of(cache), v_of(cache), cache.lse.matrix(n, c.heads)};
    const MatrixView all =
        work.dqkv[attention_layer % 2].matrix(n, c.query_width() + 2 * c.kv_width());
    dq = all.cols_from(0, c.query_width());
    dk = all.cols_from(c.query_width(), c.kv_width());
    dv = all.cols_from(c.query_width() + c.kv_width(), c.kv_width());
    pieces = layout.segments.size() * c.kv_heads;
  }
  work.team.for_tasks(pieces + waiting.size(), [&](std::size_t i, int member) {
    Member& m = work.members[static_cast<std::size_t>(member)];
    if (i >= pieces) return run_gradient(waiting[i - pieces], m);
    const sys::Span span(m.timeline, "attention", 0.0);
    attention_backward(dq, dk, dv, work.d_attended.matrix(n, c.query_width()),
                       work.dots.matrix(n, c.heads), in, layout.segments[i / c.kv_heads],
                       i % c.kv_heads, shape, attention_tools(m));
  });
  waiting.clear();
}

// Gradients of norms in full training: each block sums its own rows, then the blocks are added in
// order.
void Decoder::Impl::begin_norm_partials(int which, std::size_t width) {
  if (pass.request->full == nullptr) return;
  Buffer& buffer = work.norm_partials[which];
  const std::size_t n = layout.blocks.size() * 2 * width;
  buffer.reserve(n);
  std::fill_n(buffer.floats(n).data(), n, 0.0f);
}

void Decoder::Impl::norm_gradient(int which, Block rows, ConstMatrixView dy, ConstMatrixView x,
                                  NormStats stats, const NormWeights& weights) {
  if (pass.request->full == nullptr) return;
  const std::size_t width = x.cols;
  const auto own = work.norm_partials[which]
                       .floats(layout.blocks.size() * 2 * width)
                       .subspan(index_of(rows) * 2 * width, 2 * width);
  norm_weights_backward(own.first(width),
                        weights.bias.empty() ? std::span<float>{} : own.last(width), dy, x, stats,
                        weights);
}

void Decoder::Impl::end_norm_partials(int which, std::size_t gain, std::size_t bias) {
  if (pass.request->full == nullptr || gain == kNone) return;
  auto& full = pass.request->full->values;
  const std::size_t width = model.parameters()[gain].size();
  const auto all = work.norm_partials[which].floats(layout.blocks.size() * 2 * width);
  for (std::size_t b = 0; b < layout.blocks.size(); ++b) {
    if (!full[gain].empty())
      for (std::size_t i = 0; i < width; ++i) full[gain][i] += all[b * 2 * width + i];
    if (bias == kNone || full[bias].empty()) continue;
    for (std::size_t i = 0; i < width; ++i) full[bias][i] += all[b * 2 * width + width + i];
  }
}

void Decoder::Impl::embedding_backward() {
  const MatrixView grad = work.dx.matrix(layout.rows(), model.config().hidden);
  if (model.config().patches) return patches_backward(grad);
  auto& table = pass.request->full->values[model.embedding()];
  for (std::size_t t = 0; t < grad.rows && !table.empty(); ++t) {
    float* row = table.data() + static_cast<std::size_t>(layout.tokens[t]) * grad.cols;
    for (std::size_t i = 0; i < grad.cols; ++i) row[i] += grad.row(t)[i];
  }
  if (model.positions() == kNone) return;
  auto& learned = pass.request->full->values[model.positions()];
  for (std::size_t t = 0; t < grad.rows && !learned.empty(); ++t) {
    float* row = learned.data() + layout.positions[t] * grad.cols;
    for (std::size_t i = 0; i < grad.cols; ++i) row[i] += grad.row(t)[i];
  }
}

// The patches' rows know nothing of an image's first row, whose patch is zero.
void Decoder::Impl::patches_backward(ConstMatrixView grad) {
  auto& full = pass.request->full->values;
  const auto add = [&](std::size_t parameter, std::size_t row, const float* values) {
    if (full[parameter].empty()) return;
    float* out = full[parameter].data() + row * grad.cols;
    for (std::size_t i = 0; i < grad.cols; ++i) out[i] += values[i];
  };
  for (std::size_t t = 0; t < grad.rows; ++t) {
    const std::size_t at = layout.positions[t];
    add(model.positions(), at, grad.row(t));
    add(at == 0 ? model.class_token() : model.patch_bias(), 0, grad.row(t));
  }
  auto& projection = full[model.embedding()];
  if (projection.empty()) return;
  const tensor::DType type = compute();
  const tensor::TypedRows dy = type == tensor::DType::kF32
                                   ? tensor::TypedRows(work.dx.matrix(grad.rows, grad.cols))
                                   : work.dx_typed.typed(grad.rows, grad.cols, type);
  if (type != tensor::DType::kF32) dy.take(grad);
  const tensor::Operand left = dy;
  work.members.front().gemm.multiply(
      MatrixView(projection.data(), grad.cols, model.config().patches->width()), left.t(),
      patches_of({0, grad.rows}), true);
}

}  // namespace strata::model

#include <algorithm>

#include "model/decoder_impl.h"
#include "model/ops/cross_entropy.h"

namespace strata::model {

using tensor::ConstMatrixView;
using tensor::DType;
using tensor::Matrix;
using tensor::MatrixView;
using tensor::TypedRows;

namespace {

// Trained positions that go through the head together: enough for a product of a good size, few
// enough for the memory allowed, as many chunks for every thread.
std::vector<Block> plan_chunks(std::size_t n, std::size_t threads, std::size_t rows_max) {
  const std::size_t rounds = (n + threads * rows_max - 1) / (threads * rows_max);
  const std::size_t count = std::min(n, threads * rounds);
  std::vector<Block> out;
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t first = n * i / count;
    out.push_back({first, n * (i + 1) / count - first});
  }
  return out;
}

}  // namespace

// h = norm(rows), z = h W^T, losses; then dz, dh = dz W, and back through the norm to the rows.
void Decoder::Impl::head_chunk(Member& m, HeadSlot& slot, const PackedBatch& batch,
                               ConstMatrixView hidden_states, Block targets) {
  const DecoderConfig& c = model.config();
  const std::size_t n = targets.count;
  const std::size_t padded = compute() == DType::kF32 ? n : whole_units(n);
  const TypedRows h_padded = slot.normed.typed(padded, c.hidden, compute());
  const TypedRows h = h_padded.rows_from(0, n);
  std::fill_n(static_cast<std::byte*>(h_padded.rows_from(n, 0).data),
              (padded - n) * c.hidden * tensor::size_of(h.dtype), std::byte{0});
  const MatrixView rows = slot.rows.matrix(n, c.hidden);
  const NormStats stats{slot.rstd.floats(n), slot.mean.floats(n)};
  const NormWeights weights = norm_weights(model.final_norm(), model.final_norm_bias());
  for (std::size_t i = 0; i < n; ++i)
    std::copy_n(hidden_states.row(batch.target_rows[targets.first + i]), c.hidden, rows.row(i));
  norm_forward(h, stats, rows, weights, m.rows.floats(c.hidden).data());

  const MatrixView z_padded = slot.logits.matrix(padded, c.vocab);
  const MatrixView z = z_padded.rows_from(0, n);
  const tensor::Operand table = model.parameters()[model.head()].operand();
  product(m, z_padded, h_padded, table.t(), false, "head product");
  if (model.head_bias() != kNone)
    add_bias(z, model.parameters()[model.head_bias()].vector().data());
  {
    const sys::Span span(m.timeline, "cross entropy", 0.0);
    const std::size_t all = batch.targets.size();
    const bool training = pass.request != nullptr;
    cross_entropy(
        work.head_loss.floats(all).subspan(targets.first, n), z,
        std::span(batch.targets).subspan(targets.first, n),
        training ? work.head_weights.floats(all).subspan(targets.first, n) : std::span<float>{},
        std::span(work.head_correct).subspan(targets.first, n));
  }
  if (pass.request == nullptr) return;
  if (model.head_bias() != kNone && pass.request->full != nullptr) {
    const auto sum = slot.dhead.floats(c.vocab);
    std::fill(sum.begin(), sum.end(), 0.0f);
    bias_backward(sum.data(), z);
  }
  const TypedRows dz = compute() == DType::kF32 ? TypedRows(z) : tensor::round_in_place(z_padded);
  const MatrixView dh_padded = slot.dh.matrix(padded, c.hidden);
  const MatrixView dh = dh_padded.rows_from(0, n);
  product(m, dh_padded, dz, table, false, "head product");
  const MatrixView dx = work.dx.matrix(layout.rows(), c.hidden);
  for (std::size_t i = 0; i < n; ++i) {  // no two targets share a row, and other rows stay 0
    const NormStats own{stats.rstd.subspan(i, 1), stats.mean.subspan(i, 1)};
    const MatrixView row = dx.rows_from(batch.target_rows[targets.first + i], 1);
    norm_backward(row, row, dh.rows_from(i, 1), rows.rows_from(i, 1), own, weights);
  }
  if (pass.request->full == nullptr) return;
  const auto dgain = slot.dgain.floats(c.hidden);
  const auto dbias = weights.bias.empty() ? std::span<float>{} : slot.dbias.floats(c.hidden);
  std::fill(dgain.begin(), dgain.end(), 0.0f);
  std::fill(dbias.begin(), dbias.end(), 0.0f);
  norm_weights_backward(dgain, dbias, dh, rows, stats, weights);
}

// Full training: what the chunks in the slots add to the head and the final norm, in their order.
void Decoder::Impl::head_weight_gradient(std::span<const Block> chunks) {
  const DecoderConfig& c = model.config();
  auto& full = pass.request->full->values;
  const bool table = !full[model.head()].empty();
  const MatrixView dw =
      table ? MatrixView(full[model.head()].data(), c.vocab, c.hidden) : MatrixView();
  work.team.for_range(table ? c.vocab : 0, 256,
                      [&](std::size_t first, std::size_t last, int member) {
                        Member& m = work.members[static_cast<std::size_t>(member)];
                        for (std::size_t i = 0; i < chunks.size(); ++i) {
                          HeadSlot& slot = work.slots[i];
                          const std::size_t n = chunks[i].count;
                          TypedRows dz(slot.logits.matrix(n, c.vocab));
                          if (compute() != DType::kF32) {
                            dz.dtype = DType::kBF16;
                            dz.stride *= 2;
                          }
                          const tensor::Operand piece = dz.cols_from(first, last - first);
                          m.gemm.multiply(dw.rows_from(first, last - first), piece.t(),
                                          slot.normed.typed(n, c.hidden, compute()), true);
                        }
                      });
  for (std::size_t i = 0; i < chunks.size(); ++i) {
    const auto add = [&](std::vector<float>& sum, std::span<const float> part) {
      for (std::size_t j = 0; j < sum.size(); ++j) sum[j] += part[j];
    };
    add(full[model.final_norm()], work.slots[i].dgain.floats(c.hidden));
    if (model.final_norm_bias() != kNone)
      add(full[model.final_norm_bias()], work.slots[i].dbias.floats(c.hidden));
    if (model.head_bias() != kNone)
      add(full[model.head_bias()], work.slots[i].dhead.floats(c.vocab));
  }
}

std::vector<Block> Decoder::Impl::reserve_head(std::size_t targets) {
  const DecoderConfig& c = model.config();
  const auto threads = static_cast<std::size_t>(work.team.size());
  const std::size_t room = options.logit_bytes / (threads * c.vocab * sizeof(float));
  auto chunks = plan_chunks(targets, threads, std::clamp<std::size_t>(room, 16, 512));
  std::size_t longest = 0;
  for (const Block& chunk : chunks) longest = std::max(longest, chunk.count);
  if (compute() != DType::kF32) longest = whole_units(longest);
  for (HeadSlot& slot : work.slots) {
    slot.rows.reserve(longest * c.hidden);
    slot.rstd.reserve(longest);
    slot.mean.reserve(longest);
    slot.normed.reserve(longest, c.hidden, compute());
    slot.logits.reserve(longest * c.vocab);
    if (pass.request == nullptr) continue;
    slot.dh.reserve(longest * c.hidden);
    slot.dgain.reserve(c.hidden);
    slot.dbias.reserve(c.hidden);
    if (model.head_bias() != kNone) slot.dhead.reserve(c.vocab);
  }
  work.head_loss.reserve(targets);
  work.head_weights.reserve(targets);
  work.head_correct.resize(std::max(work.head_correct.size(), targets));
  return chunks;
}

LossSums Decoder::Impl::head(const PackedBatch& batch, ConstMatrixView hidden_states) {
  const DecoderConfig& c = model.config();
  const std::size_t n = batch.targets.size();
  const std::size_t records = batch.offsets.size() - 1;
  const auto threads = static_cast<std::size_t>(work.team.size());
  const auto chunks = reserve_head(n);
  if (pass.request != nullptr) {
    const auto weights = work.head_weights.floats(n);
    for (std::size_t r = 0; r < records; ++r) {
      std::fill(weights.begin() + batch.target_offsets[r],
                weights.begin() + batch.target_offsets[r + 1], pass.request->record_weights[r]);
    }
    const MatrixView dx = work.dx.matrix(layout.rows(), c.hidden);
    std::fill_n(dx.data, dx.rows * dx.cols, 0.0f);
  }
  const bool full = pass.request != nullptr && pass.request->full != nullptr;
  // Full training looks at a slot again when a group of chunks is done; otherwise a slot is a
  // thread's own.
  const std::size_t group = full ? threads : std::max<std::size_t>(1, chunks.size());
  for (std::size_t first = 0; first < chunks.size(); first += group) {
    const auto part = std::span(chunks).subspan(first, std::min(group, chunks.size() - first));
    work.team.for_tasks(part.size(), [&](std::size_t i, int member) {
      const auto own = static_cast<std::size_t>(member);
      head_chunk(work.members[own], work.slots[full ? i : own], batch, hidden_states, part[i]);
    });
    if (full) head_weight_gradient(part);
  }

  LossSums sums;
  sums.loss.resize(records);
  sums.trained.resize(records);
  sums.correct.resize(records);
  const auto loss = work.head_loss.floats(n);
  for (std::size_t r = 0; r < records; ++r) {
    sums.trained[r] = batch.target_offsets[r + 1] - batch.target_offsets[r];
    for (std::size_t i = batch.target_offsets[r]; i < batch.target_offsets[r + 1]; ++i) {
      sums.loss[r] += static_cast<double>(loss[i]);
      sums.correct[r] += work.head_correct[i];
    }
  }
  return sums;
}

Matrix Decoder::Impl::all_logits(ConstMatrixView hidden_states) {
  const DecoderConfig& c = model.config();
  const std::size_t n = hidden_states.rows;
  HeadSlot& slot = work.slots.front();
  slot.normed.reserve(n, c.hidden, compute());
  slot.rstd.reserve(n);
  slot.mean.reserve(n);
  const TypedRows h = slot.normed.typed(n, c.hidden, compute());
  norm_forward(h, {slot.rstd.floats(n), slot.mean.floats(n)}, hidden_states,
               norm_weights(model.final_norm(), model.final_norm_bias()),
               work.members.front().rows.floats(c.hidden).data());
  Matrix out(n, c.vocab);
  splitting = work.team.size() > 1;
  product(work.members.front(), out.view(), h, model.parameters()[model.head()].operand().t(),
          false, "head product");
  splitting = false;
  if (model.head_bias() != kNone)
    add_bias(out.view(), model.parameters()[model.head_bias()].vector().data());
  return out;
}

}  // namespace strata::model

#include <algorithm>

#include "model/decoder_impl.h"
#include "model/ops/cross_entropy.h"
#include "tensor/parallel.h"

namespace strata::model {

using tensor::ConstMatrixView;
using tensor::Matrix;
using tensor::MatrixView;

LossSums Decoder::Impl::head(const PackedBatch& batch, ConstMatrixView hidden_states,
                             const TrainRequest* request) {
  const DecoderConfig& c = model.config();
  const std::size_t n = batch.targets.size();
  const std::size_t records = batch.offsets.size() - 1;
  LossSums sums;
  sums.loss.resize(records);
  sums.trained.resize(records);
  sums.correct.resize(records);

  const MatrixView rows = head_rows.matrix(n, c.hidden);
  for (std::size_t i = 0; i < n; ++i)
    std::copy_n(hidden_states.row(batch.target_rows[i]), c.hidden, rows.row(i));
  const MatrixView h = head_normed.matrix(n, c.hidden);
  const std::size_t final_bias = model.final_norm_bias();
  normalise(model.final_norm(), final_bias, rows, h, head_rstd, head_mean);

  const auto weights = head_weights.floats(n);
  if (request != nullptr) {
    for (std::size_t r = 0; r < records; ++r) {
      std::fill(weights.begin() + batch.target_offsets[r],
                weights.begin() + batch.target_offsets[r + 1], request->record_weights[r]);
    }
  }
  const auto loss = head_loss.floats(n);
  head_correct.resize(n);
  const MatrixView dh = request != nullptr ? head_grad.matrix(n, c.hidden) : MatrixView();
  const tensor::Operand table = model.parameters()[model.head()].operand();
  const std::size_t chunk =
      std::max<std::size_t>(16, options.logit_bytes / (c.vocab * sizeof(float)));
  for (std::size_t first = 0; first < n; first += chunk) {
    const std::size_t count = std::min(chunk, n - first);
    const MatrixView z = head_logits.matrix(count, c.vocab);
    const auto in = as_operand(h.rows_from(first, count), x_half);
    gemm.multiply(z, in, table.t(), false);
    cross_entropy(loss.subspan(first, count), z, std::span(batch.targets).subspan(first, count),
                  request != nullptr ? std::span<const float>(weights).subspan(first, count)
                                     : std::span<const float>{},
                  std::span(head_correct).subspan(first, count));
    if (request == nullptr) continue;
    const auto dz = as_operand(z, dy_half);
    gemm.multiply(dh.rows_from(first, count), dz, table, false);
    if (request->full != nullptr) {
      gemm.multiply(MatrixView(request->full->values[model.head()].data(), c.vocab, c.hidden),
                    dz.t(), in, true);
    }
  }
  for (std::size_t r = 0; r < records; ++r) {
    sums.trained[r] = batch.target_offsets[r + 1] - batch.target_offsets[r];
    for (std::size_t i = batch.target_offsets[r]; i < batch.target_offsets[r + 1]; ++i) {
      sums.loss[r] += static_cast<double>(loss[i]);
      sums.correct[r] += head_correct[i];
    }
  }
  if (request == nullptr) return sums;

  // Back through the final norm, then to the rows the targets came from; all other rows have no
  // gradient.
  const MatrixView grad = dx.matrix(layout.rows(), c.hidden);
  tensor::parallel_for(grad.rows, 64, [&](std::size_t a, std::size_t b) {
    std::fill(grad.row(a), grad.row(a) + (b - a) * grad.cols, 0.0f);
  });
  const NormStats stats{head_rstd.floats(n),
                        c.norm == NormKind::kLayer ? head_mean.floats(n) : std::span<float>{}};
  const MatrixView drows = dnormed.matrix(n, c.hidden);
  std::fill_n(drows.data, n * c.hidden, 0.0f);
  norm_gradient(model.final_norm(), final_bias, dh, rows, stats, drows, *request);
  for (std::size_t i = 0; i < n; ++i)
    std::copy_n(drows.row(i), c.hidden, grad.row(batch.target_rows[i]));
  return sums;
}

Matrix Decoder::Impl::all_logits(ConstMatrixView hidden_states) {
  const DecoderConfig& c = model.config();
  const MatrixView h = head_normed.matrix(hidden_states.rows, c.hidden);
  normalise(model.final_norm(), model.final_norm_bias(), hidden_states, h, head_rstd, head_mean);
  Matrix out(hidden_states.rows, c.vocab);
  gemm.multiply(out.view(), as_operand(h, x_half), model.parameters()[model.head()].operand().t(),
                false);
  return out;
}

}  // namespace strata::model

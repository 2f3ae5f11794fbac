#include "model/ops/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/simd.h"
#include "model/ops/fast_math.h"
#include "tensor/gemm.h"
#include "tensor/parallel.h"

namespace strata::model {

using tensor::ConstMatrixView;
using tensor::MatrixView;
using tensor::small_gemm;

namespace {

constexpr std::size_t kQueryBlock = 64;

// A block of queries of one head and the keys any of them sees.
struct Block {
  std::size_t q_row;  // first row of Q
  std::size_t queries;
  std::size_t k_row;  // first row of K
  std::size_t keys;
  std::size_t last_of_first;  // key column (within the block) at which the first query stands
};

template <class Visit>
void for_blocks(const AttentionSegment& s, std::size_t window, const Visit& visit) {
  const std::size_t past = s.k_count - s.q_count;
  for (std::size_t first = 0; first < s.q_count; first += kQueryBlock) {
    const std::size_t count = std::min(kQueryBlock, s.q_count - first);
    const std::size_t end = past + first + count;  // one past the last key seen
    const std::size_t position = past + first;     // of the first query
    const std::size_t begin = window > 0 && position + 1 > window ? position + 1 - window : 0;
    visit(Block{s.q_first + first, count, s.k_first + begin, end - begin, position - begin});
  }
}

// Columns [low, high) of row i are seen; the window moves with the row.
struct Seen {
  std::size_t low;
  std::size_t high;
};
Seen seen(const Block& block, std::size_t i, std::size_t window) {
  const std::size_t at = block.last_of_first + i;
  return {window > 0 && at + 1 > window ? at + 1 - window : 0, at + 1};
}

// Scores of one row to probabilities; unseen columns become 0. Returns log sum exp.
STRATA_SIMD float softmax_row(float* row, std::size_t columns, Seen s) {
  float top = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : top)
  for (std::size_t j = s.low; j < s.high; ++j) top = std::max(top, row[j]);
  float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (std::size_t j = s.low; j < s.high; ++j) {
    row[j] = exp_fast(row[j] - top);
    sum += row[j];
  }
  const float inverse = 1.0f / sum;
#pragma omp simd
  for (std::size_t j = s.low; j < s.high; ++j) row[j] *= inverse;
  std::fill(row, row + s.low, 0.0f);
  std::fill(row + s.high, row + columns, 0.0f);
  return top + std::log(sum);
}

// Probabilities again from the scores, and the gradient of the scores: row -> p, grad -> p (grad -
// dot).
STRATA_SIMD void backward_row(float* row, float* grad, const float* d_o, const float* o,
                              std::size_t d, float log_sum, std::size_t columns, Seen s) {
  float dot = 0.0f;
#pragma omp simd reduction(+ : dot)
  for (std::size_t c = 0; c < d; ++c) dot += d_o[c] * o[c];
  std::fill(row, row + s.low, 0.0f);
  std::fill(row + s.high, row + columns, 0.0f);
  std::fill(grad, grad + s.low, 0.0f);
  std::fill(grad + s.high, grad + columns, 0.0f);
#pragma omp simd
  for (std::size_t j = s.low; j < s.high; ++j) {
    row[j] = exp_fast(row[j] - log_sum);
    grad[j] = row[j] * (grad[j] - dot);
  }
}

std::size_t longest(std::span<const AttentionSegment> segments) {
  std::size_t n = 0;
  for (const auto& s : segments) n = std::max(n, s.k_count);
  return n;
}

// Tasks are (segment, key/value head); the buffer lives as long as a thread's share of them.
template <class Task>
void for_tasks(std::span<const AttentionSegment> segments, std::size_t kv_heads,
               std::size_t buffers, const Task& task) {
  const std::size_t n = segments.size() * kv_heads;
  const std::size_t floats = kQueryBlock * longest(segments);
  // Interleaved shares: long segments stand next to each other in the task list, threads take them
  // in turn.
  const auto threads = static_cast<std::size_t>(tensor::thread_count());
  const std::size_t shares = std::min(n, threads);
  tensor::parallel_tasks(shares, [&](std::size_t share) {
    std::vector<float> scratch(buffers * floats);
    for (std::size_t i = share; i < n; i += shares) {
      task(segments[i / kv_heads], i % kv_heads, std::span<float>(scratch), floats);
    }
  });
}

}  // namespace

void attention_forward(MatrixView o, MatrixView lse, ConstMatrixView q, ConstMatrixView k,
                       ConstMatrixView v, std::span<const AttentionSegment> segments,
                       const AttentionShape& shape) {
  const std::size_t d = shape.head_dim;
  const std::size_t group = shape.heads / shape.kv_heads;
  const float scale = 1.0f / std::sqrt(static_cast<float>(d));
  for_tasks(
      segments, shape.kv_heads, 1,
      [&](const AttentionSegment& s, std::size_t kv, std::span<float> scratch, std::size_t) {
        for (std::size_t h = kv * group; h < (kv + 1) * group; ++h) {
          for_blocks(s, shape.window, [&](const Block& b) {
            const MatrixView scores(scratch.data(), b.queries, b.keys);
            const ConstMatrixView keys = k.cols_from(kv * d, d).rows_from(b.k_row, b.keys);
            const ConstMatrixView values = v.cols_from(kv * d, d).rows_from(b.k_row, b.keys);
            small_gemm(scores, q.cols_from(h * d, d).rows_from(b.q_row, b.queries),
                       tensor::Operand(keys).t(), false, scale);
            for (std::size_t i = 0; i < b.queries; ++i) {
              const float log_sum = softmax_row(scores.row(i), b.keys, seen(b, i, shape.window));
              if (lse.data != nullptr) lse.row(b.q_row + i)[h] = log_sum;
            }
            small_gemm(o.cols_from(h * d, d).rows_from(b.q_row, b.queries), scores, values, false);
          });
        }
      });
}

// With P the probabilities, D_i = dO_i . O_i:  dV = P^T dO,  dP = dO V^T,  dS = P o (dP - D) /
// sqrt(d),  dQ = dS K,  dK = dS^T Q. P is made again from the scores and lse (Dao et al. 2022,
// section 3.1).
void attention_backward(MatrixView dq, MatrixView dk, MatrixView dv, ConstMatrixView d_o,
                        ConstMatrixView o, ConstMatrixView lse, ConstMatrixView q,
                        ConstMatrixView k, ConstMatrixView v,
                        std::span<const AttentionSegment> segments, const AttentionShape& shape) {
  const std::size_t d = shape.head_dim;
  const std::size_t group = shape.heads / shape.kv_heads;
  const float scale = 1.0f / std::sqrt(static_cast<float>(d));
  for_tasks(
      segments, shape.kv_heads, 2,
      [&](const AttentionSegment& s, std::size_t kv, std::span<float> scratch, std::size_t floats) {
        for (auto* out : {&dk, &dv}) {
          const MatrixView part = out->cols_from(kv * d, d).rows_from(s.k_first, s.k_count);
          for (std::size_t i = 0; i < part.rows; ++i) std::fill_n(part.row(i), d, 0.0f);
        }
        for (std::size_t h = kv * group; h < (kv + 1) * group; ++h) {
          for_blocks(s, shape.window, [&](const Block& b) {
            const MatrixView p(scratch.data(), b.queries, b.keys);
            const MatrixView ds(scratch.data() + floats, b.queries, b.keys);
            const ConstMatrixView queries = q.cols_from(h * d, d).rows_from(b.q_row, b.queries);
            const ConstMatrixView grads = d_o.cols_from(h * d, d).rows_from(b.q_row, b.queries);
            const ConstMatrixView outs = o.cols_from(h * d, d).rows_from(b.q_row, b.queries);
            const ConstMatrixView keys = k.cols_from(kv * d, d).rows_from(b.k_row, b.keys);
            const ConstMatrixView values = v.cols_from(kv * d, d).rows_from(b.k_row, b.keys);
            small_gemm(p, queries, tensor::Operand(keys).t(), false, scale);
            small_gemm(ds, grads, tensor::Operand(values).t(), false);
            for (std::size_t i = 0; i < b.queries; ++i) {
              backward_row(p.row(i), ds.row(i), grads.row(i), outs.row(i), d,
                           lse.row(b.q_row + i)[h], b.keys, seen(b, i, shape.window));
            }
            small_gemm(dv.cols_from(kv * d, d).rows_from(b.k_row, b.keys),
                       tensor::Operand(ConstMatrixView(p)).t(), grads, true);
            small_gemm(dq.cols_from(h * d, d).rows_from(b.q_row, b.queries), ds, keys, false,
                       scale);
            small_gemm(dk.cols_from(kv * d, d).rows_from(b.k_row, b.keys),
                       tensor::Operand(ConstMatrixView(ds)).t(), queries, true, scale);
          });
        }
      });
}

}  // namespace strata::model

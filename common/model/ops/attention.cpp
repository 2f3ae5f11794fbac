#include "model/ops/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/simd.h"
#include "model/ops/fast_math.h"
#include "tensor/gemm.h"

namespace strata::model {

using tensor::ConstMatrixView;
using tensor::float_gemm;
using tensor::MatrixView;

namespace {

// Floats of one block of scores that still fit a core's cache beside what is read.
constexpr std::size_t kScoresMax = 48 * 1024;
constexpr std::size_t kQueriesMax = 64;
constexpr std::size_t kQueriesMin = 16;

// Some queries and the keys any of them sees.
struct Block {
  std::size_t q_row;  // first row of Q
  std::size_t queries;
  std::size_t k_row;  // first row of K
  std::size_t keys;
  std::size_t first_at;  // key column (within the block) at which the first query stands
};

std::size_t queries_of_block(std::size_t group, std::size_t keys) {
  return std::clamp(kScoresMax / std::max<std::size_t>(1, group * keys), kQueriesMin, kQueriesMax);
}

template <class Visit>
void for_blocks(const AttentionSegment& s, std::size_t from, std::size_t count,
                const AttentionShape& shape, const Visit& visit) {
  const std::size_t past = s.k_count - s.q_count;
  const std::size_t group = shape.heads / shape.kv_heads;
  const std::size_t window = shape.window;
  const std::size_t reach = window > 0 ? std::min(window, s.k_count) : s.k_count;
  const std::size_t step = queries_of_block(group, reach);
  for (std::size_t first = from; first < from + count; first += step) {
    const std::size_t queries = std::min(step, from + count - first);
    const std::size_t end = past + first + queries;  // one past the last key seen
    const std::size_t position = past + first;       // of the first query
    const std::size_t begin = window > 0 && position + 1 > window ? position + 1 - window : 0;
    visit(Block{s.q_first + first, queries, s.k_first + begin, end - begin, position - begin});
  }
}

// Columns [low, high) of query i are seen; the window moves with the query.
struct Seen {
  std::size_t low;
  std::size_t high;
};
Seen seen(const Block& block, std::size_t i, std::size_t window) {
  const std::size_t at = block.first_at + i;
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
STRATA_SIMD void backward_row(float* row, float* grad, float dot, float log_sum,
                              std::size_t columns, Seen s) {
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

STRATA_SIMD float dot_of(const float* a, const float* b, std::size_t n) {
  float dot = 0.0f;
#pragma omp simd reduction(+ : dot)
  for (std::size_t i = 0; i < n; ++i) dot += a[i] * b[i];
  return dot;
}

STRATA_SIMD void scaled_copy(float* out, const float* in, float scale, std::size_t n) {
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i) out[i] = scale * in[i];
}

// The rows of a block for all heads of a group, one head behind another: (group * queries) x d.
void gather(MatrixView tile, ConstMatrixView from, const Block& b, std::size_t first_head,
            std::size_t d, float scale) {
  for (std::size_t r = 0; r < tile.rows; ++r) {
    const float* in = from.row(b.q_row + r % b.queries) + (first_head + r / b.queries) * d;
    scaled_copy(tile.row(r), in, scale, d);
  }
}
void scatter(MatrixView to, ConstMatrixView tile, const Block& b, std::size_t first_head,
             std::size_t d, float scale) {
  for (std::size_t r = 0; r < tile.rows; ++r) {
    float* out = to.row(b.q_row + r % b.queries) + (first_head + r / b.queries) * d;
    scaled_copy(out, tile.row(r), scale, d);
  }
}

// Tiles of a block's rows x d, and of its rows x keys, in scratch memory.
struct Room {
  std::size_t rows, keys, d, tiles, scores;
  Room(const AttentionSegment& segment, const AttentionShape& shape, bool backward)
      : d(shape.head_dim), tiles(backward ? 3 : 1), scores(backward ? 2 : 1) {
    const std::size_t group = shape.heads / shape.kv_heads;
    const std::size_t reach =
        shape.window > 0 ? std::min(shape.window, segment.k_count) : segment.k_count;
    // A window block sees up to queries - 1 keys more than one query does.
    keys = std::min(segment.k_count, reach + kQueriesMax);
    rows = group * std::min(queries_of_block(group, reach), segment.q_count);
  }
  [[nodiscard]] std::size_t floats() const { return rows * (tiles * d + scores * keys); }
  [[nodiscard]] MatrixView tile(float* scratch, std::size_t i, std::size_t count) const {
    return {scratch + i * rows * d, count, d};
  }
  [[nodiscard]] MatrixView score(float* scratch, std::size_t i, std::size_t count,
                                 std::size_t columns) const {
    return {scratch + rows * (tiles * d + i * keys), count, columns};
  }
};

float* grown(std::vector<float>& scratch, std::size_t n) {
  if (scratch.size() < n) scratch.resize(n);
  return scratch.data();
}

}  // namespace

std::size_t attention_scratch(const AttentionSegment& s, const AttentionShape& shape,
                              bool backward) {
  return Room(s, shape, backward).floats();
}

std::vector<AttentionTask> attention_tasks(std::span<const AttentionSegment> segments,
                                           const AttentionShape& shape, std::size_t queries) {
  std::vector<AttentionTask> out;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const AttentionSegment& s = segments[i];
    for (std::size_t first = 0; first < s.q_count; first += queries) {
      for (std::size_t h = 0; h < shape.kv_heads; ++h)
        out.push_back({i, h, first, std::min(queries, s.q_count - first)});
    }
  }
  const auto cost_of = [&](const AttentionTask& t) {
    const std::size_t past = segments[t.segment].k_count - segments[t.segment].q_count;
    const std::size_t keys = past + t.first + t.count;
    return t.count * (shape.window > 0 ? std::min(keys, shape.window + t.count) : keys);
  };
  std::stable_sort(out.begin(), out.end(),
                   [&](const auto& a, const auto& b) { return cost_of(a) > cost_of(b); });
  return out;
}

void attention_forward(MatrixView o, const AttentionInput& in, const AttentionSegment& s,
                       const AttentionTask& task, const AttentionShape& shape,
                       std::vector<float>& scratch) {
  const std::size_t d = shape.head_dim;
  const std::size_t group = shape.heads / shape.kv_heads;
  const std::size_t head = task.kv_head * group;
  const float scale = 1.0f / std::sqrt(static_cast<float>(d));
  const Room room(s, shape, false);
  float* memory = grown(scratch, room.floats());
  for_blocks(s, task.first, task.count, shape, [&](const Block& b) {
    const std::size_t rows = group * b.queries;
    const MatrixView tile = room.tile(memory, 0, rows);
    const MatrixView scores = room.score(memory, 0, rows, b.keys);
    const auto keys = in.k.cols_from(task.kv_head * d, d).rows_from(b.k_row, b.keys);
    const auto values = in.v.cols_from(task.kv_head * d, d).rows_from(b.k_row, b.keys);
    gather(tile, in.q, b, head, d, scale);
    float_gemm(scores, tile, tensor::Operand(keys).t(), false);
    for (std::size_t r = 0; r < rows; ++r) {
      const std::size_t i = r % b.queries;
      const float log_sum = softmax_row(scores.row(r), b.keys, seen(b, i, shape.window));
      if (in.lse.data != nullptr) in.lse.row(b.q_row + i)[head + r / b.queries] = log_sum;
    }
    float_gemm(tile, scores, values, false);
    scatter(o, tile, b, head, d, 1.0f);
  });
}

void attention_dots(float* dots, const float* d_o, const float* o, const AttentionShape& shape) {
  const std::size_t d = shape.head_dim;
  for (std::size_t h = 0; h < shape.heads; ++h) dots[h] = dot_of(d_o + h * d, o + h * d, d);
}

// With P the probabilities, D_i = dO_i . O_i and q scaled by 1 / sqrt(d):  dV = P^T dO,
//   dP = dO V^T,  dS = P o (dP - D),  dQ = dS K / sqrt(d),  dK = dS^T q.
// P is made again from the scores and lse (Dao et al. 2022, section 3.1).
void attention_backward(MatrixView dq, MatrixView dk, MatrixView dv, ConstMatrixView d_o,
                        ConstMatrixView dots, const AttentionInput& in, const AttentionSegment& s,
                        std::size_t kv_head, const AttentionShape& shape,
                        std::vector<float>& scratch) {
  const std::size_t d = shape.head_dim;
  const std::size_t group = shape.heads / shape.kv_heads;
  const std::size_t head = kv_head * group;
  const float scale = 1.0f / std::sqrt(static_cast<float>(d));
  for (auto* out : {&dk, &dv}) {
    const MatrixView part = out->cols_from(kv_head * d, d).rows_from(s.k_first, s.k_count);
    for (std::size_t i = 0; i < part.rows; ++i) std::fill_n(part.row(i), d, 0.0f);
  }
  const Room room(s, shape, true);
  float* memory = grown(scratch, room.floats());
  for_blocks(s, 0, s.q_count, shape, [&](const Block& b) {
    const std::size_t rows = group * b.queries;
    const MatrixView queries = room.tile(memory, 0, rows);
    const MatrixView grads = room.tile(memory, 1, rows);
    const MatrixView out = room.tile(memory, 2, rows);
    const MatrixView p = room.score(memory, 0, rows, b.keys);
    const MatrixView ds = room.score(memory, 1, rows, b.keys);
    const auto keys = in.k.cols_from(kv_head * d, d).rows_from(b.k_row, b.keys);
    const auto values = in.v.cols_from(kv_head * d, d).rows_from(b.k_row, b.keys);
    gather(queries, in.q, b, head, d, scale);
    gather(grads, d_o, b, head, d, 1.0f);
    float_gemm(p, queries, tensor::Operand(keys).t(), false);
    float_gemm(ds, grads, tensor::Operand(values).t(), false);
    for (std::size_t r = 0; r < rows; ++r) {
      const std::size_t i = r % b.queries;
      const std::size_t h = head + r / b.queries;
      backward_row(p.row(r), ds.row(r), dots.row(b.q_row + i)[h], in.lse.row(b.q_row + i)[h],
                   b.keys, seen(b, i, shape.window));
    }
    float_gemm(dv.cols_from(kv_head * d, d).rows_from(b.k_row, b.keys),
               tensor::Operand(ConstMatrixView(p)).t(), grads, true);
    float_gemm(dk.cols_from(kv_head * d, d).rows_from(b.k_row, b.keys),
               tensor::Operand(ConstMatrixView(ds)).t(), queries, true);
    float_gemm(out, ds, keys, false);
    scatter(dq, out, b, head, d, scale);
  });
}

}  // namespace strata::model

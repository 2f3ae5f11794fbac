#include "model/ops/attention.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "base/simd.h"
#include "model/ops/fast_math.h"
#include "tensor/typed_rows.h"

namespace strata::model {

using tensor::ConstMatrixView;
using tensor::DType;
using tensor::MatrixView;
using tensor::Operand;
using tensor::TypedRows;

namespace {

// Floats of one block of scores that still fit a core's cache beside what is read.
constexpr std::size_t kScoresMax = std::size_t{48} * 1024;
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
    // One past the last key seen.
    const std::size_t end = shape.causal ? past + first + queries : s.k_count;
    const std::size_t position = past + first;  // of the first query
    const std::size_t begin = window > 0 && position + 1 > window ? position + 1 - window : 0;
    visit(Block{s.q_first + first, queries, s.k_first + begin, end - begin, position - begin});
  }
}

// Columns [low, high) of query i are seen; the window moves with the query.
struct Seen {
  std::size_t low;
  std::size_t high;
};
Seen seen(const Block& block, std::size_t i, const AttentionShape& shape) {
  if (!shape.causal) return {0, block.keys};
  const std::size_t window = shape.window;
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

// Records of a few tokens are not worth rounding, nor the kernels of their shapes.
DType products_of(const AttentionSegment& s, DType wanted) {
  constexpr std::size_t kQueriesWorthIt = 16;
  return s.q_count < kQueriesWorthIt ? DType::kF32 : wanted;
}

// Every new shape of a bf16 product costs oneDNN a new kernel, so lengths are rounded up with rows
// of zeros: to whole 32s, and from 512 on to no more than eight lengths between powers of two.
std::size_t padded(std::size_t n, DType type) {
  if (type == DType::kF32) return n;
  const std::size_t unit = std::max<std::size_t>(32, std::bit_floor(n) / 8);
  return (n + unit - 1) / unit * unit;
}

void zero_from(const TypedRows& tile, std::size_t row) {
  auto* first =
      static_cast<std::byte*>(tile.data) + row * tile.stride * tensor::size_of(tile.dtype);
  std::fill_n(first, (tile.rows - row) * tile.stride * tensor::size_of(tile.dtype), std::byte{0});
}

// The rows of a block for all heads of a group, one head behind another: (group * queries) x d.
// What the tile has beyond them becomes zero.
void gather(const TypedRows& tile, ConstMatrixView from, const Block& b, std::size_t first_head,
            std::size_t rows, float scale) {
  const std::size_t d = tile.cols;
  for (std::size_t r = 0; r < rows; ++r) {
    const float* in = from.row(b.q_row + r % b.queries) + (first_head + r / b.queries) * d;
    if (tile.dtype == DType::kF32) {
      scaled_copy(tile.open(r, nullptr), in, scale, d);
    } else {
      tile.close(r, in);
    }
  }
  zero_from(tile, rows);
}
void scatter(MatrixView to, ConstMatrixView tile, const Block& b, std::size_t first_head,
             std::size_t rows, float scale) {
  const std::size_t d = tile.cols;
  for (std::size_t r = 0; r < rows; ++r) {
    float* out = to.row(b.q_row + r % b.queries) + (first_head + r / b.queries) * d;
    scaled_copy(out, tile.row(r), scale, d);
  }
}

// Hands out pieces of a thread's scratch memory; without any, counts them.
class Arena {
 public:
  explicit Arena(float* memory) : memory_(memory) {}
  MatrixView floats(std::size_t rows, std::size_t cols) { return {take(rows * cols), rows, cols}; }
  TypedRows typed(std::size_t rows, std::size_t cols, DType type) {
    return {take((rows * cols * tensor::size_of(type) + sizeof(float) - 1) / sizeof(float)), type,
            rows, cols};
  }
  [[nodiscard]] std::size_t used() const { return used_; }

 private:
  float* take(std::size_t n) {
    constexpr std::size_t kLine = 16;  // floats of a cache line
    float* at = memory_ == nullptr ? nullptr : memory_ + used_;
    used_ += (n + kLine - 1) / kLine * kLine;
    return at;
  }
  float* memory_;
  std::size_t used_ = 0;
};

// Tiles of the largest block of a record: rows x d and rows x keys. With bf16 products also the
// record's keys and values, and what their gradients are summed in.
struct Room {
  DType type;
  std::size_t block_rows, block_keys;
  TypedRows q, grads;  // block_rows x d
  TypedRows k, v;      // keys x d; bf16 only
  MatrixView dk, dv;   // keys x d; bf16 only
  MatrixView p, ds;    // block_rows x block_keys
  MatrixView out;      // block_rows x d

  Room(const AttentionSegment& s, const AttentionShape& shape, DType products, bool backward,
       Arena& arena)
      : type(products_of(s, products)) {
    const std::size_t d = shape.head_dim;
    const std::size_t group = shape.heads / shape.kv_heads;
    const std::size_t reach = shape.window > 0 ? std::min(shape.window, s.k_count) : s.k_count;
    // A window block sees up to queries - 1 keys more than one query does.
    block_keys = padded(std::min(s.k_count, reach + kQueriesMax), type);
    block_rows = padded(group * std::min(queries_of_block(group, reach), s.q_count), type);
    const std::size_t keys =
        s.k_count + block_keys;  // a block's keys, rounded up, may end behind the record's
    q = arena.typed(block_rows, d, type);
    p = arena.floats(block_rows, block_keys);
    out = arena.floats(block_rows, d);
    if (backward) {
      grads = arena.typed(block_rows, d, type);
      ds = arena.floats(block_rows, block_keys);
    }
    if (type == DType::kF32) return;
    k = arena.typed(keys, d, type);
    v = arena.typed(keys, d, type);
    if (!backward) return;
    dk = arena.floats(keys, d);
    dv = arena.floats(keys, d);
  }
};

float* grown(std::vector<float>& scratch, const AttentionSegment& s, const AttentionShape& shape,
             DType products, bool backward) {
  const std::size_t n = attention_scratch(s, shape, products, backward);
  if (scratch.size() < n) scratch = std::vector<float>(n);  // no more than planned, as resize might
  return scratch.data();
}

// One record and key head at work: where its keys and values are read in the type of the products.
struct Work {
  const AttentionInput& in;
  const AttentionSegment& s;
  const AttentionShape& shape;
  const AttentionTools& tools;
  std::size_t kv_head;
  Arena arena;
  Room room;
  float scale;

  Work(const AttentionInput& input, const AttentionSegment& segment, const AttentionShape& form,
       const AttentionTools& lent, std::size_t head, bool backward)
      : in(input),
        s(segment),
        shape(form),
        tools(lent),
        kv_head(head),
        arena(grown(lent.scratch, segment, form, lent.products, backward)),
        room(segment, form, lent.products, backward, arena),
        scale(1.0f / std::sqrt(static_cast<float>(form.head_dim))) {}

  [[nodiscard]] bool rounds() const { return room.type != DType::kF32; }
  // 1 / sqrt(d) goes into float queries, but into the product of rounded ones, which stay as they
  // are.
  [[nodiscard]] float in_query() const { return rounds() ? 1.0f : scale; }
  [[nodiscard]] float in_product() const { return rounds() ? scale : 1.0f; }

  [[nodiscard]] ConstMatrixView columns(ConstMatrixView all) const {
    return all.cols_from(kv_head * shape.head_dim, shape.head_dim);
  }
  // Before the first block: keys [first, end) of the record.
  void take_keys(std::size_t first, std::size_t end) const {
    if (!rounds()) return;
    const auto take = [&](const TypedRows& to, ConstMatrixView from) {
      to.rows_from(first, end - first)
          .take(columns(from).rows_from(s.k_first + first, end - first));
      zero_from(to.rows_from(0, std::min(to.rows, end + room.block_keys)), end);
    };
    take(room.k, in.k);
    take(room.v, in.v);
  }
  [[nodiscard]] std::size_t keys_of(const Block& b) const { return padded(b.keys, room.type); }
  [[nodiscard]] Operand keys(const Block& b) const { return of(b, in.k, room.k); }
  [[nodiscard]] Operand values(const Block& b) const { return of(b, in.v, room.v); }
  [[nodiscard]] Operand of(const Block& b, ConstMatrixView floats, const TypedRows& rounded) const {
    if (!rounds()) return columns(floats).rows_from(b.k_row, b.keys);
    return rounded.rows_from(b.k_row - s.k_first, keys_of(b));
  }
  // Scores or probabilities as an operand: rounded in their own memory.
  [[nodiscard]] Operand operand(MatrixView values) const {
    return rounds() ? Operand(tensor::round_in_place(values)) : Operand(values);
  }
  void multiply(MatrixView out, const Operand& a, const Operand& b, bool accumulate,
                float factor = 1.0f) const {
    tools.gemm.multiply(out, a, b, accumulate, factor);
  }
};

}  // namespace

std::size_t attention_scratch(const AttentionSegment& s, const AttentionShape& shape,
                              DType products, bool backward) {
  Arena counted(nullptr);
  const Room room(s, shape, products, backward, counted);
  return counted.used();
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
                       const AttentionTools& tools) {
  const std::size_t group = shape.heads / shape.kv_heads;
  const std::size_t head = task.kv_head * group;
  const Work work(in, s, shape, tools, task.kv_head, false);
  const Room& room = work.room;
  const std::size_t past = s.k_count - s.q_count;
  const std::size_t position = past + task.first;
  work.take_keys(shape.window > 0 && position + 1 > shape.window ? position + 1 - shape.window : 0,
                 shape.causal ? position + task.count : s.k_count);
  for_blocks(s, task.first, task.count, shape, [&](const Block& b) {
    const std::size_t rows = group * b.queries;
    const std::size_t all = padded(rows, room.type);
    const TypedRows queries = room.q.rows_from(0, all);
    const MatrixView scores(room.p.data, all, work.keys_of(b));
    gather(queries, in.q, b, head, rows, work.in_query());
    work.multiply(scores, queries, work.keys(b).t(), false, work.in_product());
    for (std::size_t r = 0; r < rows; ++r) {
      const std::size_t i = r % b.queries;
      const float log_sum = softmax_row(scores.row(r), scores.cols, seen(b, i, shape));
      if (in.lse.data != nullptr) in.lse.row(b.q_row + i)[head + r / b.queries] = log_sum;
    }
    const MatrixView out = room.out.rows_from(0, all);
    work.multiply(out, work.operand(scores), work.values(b), false);
    scatter(o, out, b, head, rows, 1.0f);
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
                        const AttentionTools& tools) {
  const std::size_t d = shape.head_dim;
  const std::size_t group = shape.heads / shape.kv_heads;
  const std::size_t head = kv_head * group;
  const Work work(in, s, shape, tools, kv_head, true);
  const Room& room = work.room;
  work.take_keys(0, s.k_count);
  const auto own = [&](MatrixView all) {
    return all.cols_from(kv_head * d, d).rows_from(s.k_first, s.k_count);
  };
  const MatrixView dk_sum = work.rounds() ? room.dk : own(dk);
  const MatrixView dv_sum = work.rounds() ? room.dv : own(dv);
  for (const MatrixView& sum : {dk_sum, dv_sum}) {
    for (std::size_t i = 0; i < sum.rows; ++i) std::fill_n(sum.row(i), d, 0.0f);
  }
  for_blocks(s, 0, s.q_count, shape, [&](const Block& b) {
    const std::size_t rows = group * b.queries;
    const std::size_t all = padded(rows, room.type);
    const TypedRows queries = room.q.rows_from(0, all);
    const TypedRows grads = room.grads.rows_from(0, all);
    const MatrixView p(room.p.data, all, work.keys_of(b));
    const MatrixView ds(room.ds.data, all, work.keys_of(b));
    gather(queries, in.q, b, head, rows, work.in_query());
    gather(grads, d_o, b, head, rows, 1.0f);
    work.multiply(p, queries, work.keys(b).t(), false, work.in_product());
    work.multiply(ds, grads, work.values(b).t(), false);
    for (std::size_t r = 0; r < rows; ++r) {
      const std::size_t i = r % b.queries;
      const std::size_t h = head + r / b.queries;
      backward_row(p.row(r), ds.row(r), dots.row(b.q_row + i)[h], in.lse.row(b.q_row + i)[h],
                   p.cols, seen(b, i, shape));
    }
    const std::size_t first = b.k_row - s.k_first;
    const Operand p_typed = work.operand(p);
    const Operand ds_typed = work.operand(ds);
    work.multiply(dv_sum.rows_from(first, p.cols), p_typed.t(), grads, true);
    work.multiply(dk_sum.rows_from(first, p.cols), ds_typed.t(), queries, true, work.in_product());
    const MatrixView out = room.out.rows_from(0, all);
    work.multiply(out, ds_typed, work.keys(b), false);
    scatter(dq, out, b, head, rows, work.scale);
  });
  if (!work.rounds()) return;
  const auto copy = [&](MatrixView to, ConstMatrixView from) {
    for (std::size_t i = 0; i < to.rows; ++i) std::copy_n(from.row(i), d, to.row(i));
  };
  copy(own(dk), dk_sum);
  copy(own(dv), dv_sum);
}

}  // namespace strata::model

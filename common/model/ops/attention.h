#pragma once
// Attention over packed records, causal unless the shape says otherwise: block-diagonal,
// grouped-query, optional sliding window, computed block by block of queries for all heads that
// share a key head, so that no more than a block of their scores exists at a time. Each call works
// on the calling thread.
//   O = softmax(Q K^T / sqrt(d) + mask) V;  query i of a segment sees keys max(0, i - window + 1)
//   .. i       (window 0: all)
// Rows are tokens. Q, O: T x H*d; K, V: T_k x H_kv*d; head h uses key/value head h / (H / H_kv).
// With bf16 products Q, K, V, dO, the probabilities and the scores' gradient are rounded before
// they are multiplied; sums, softmax and what comes out are float.
#include <cstdint>
#include <span>
#include <vector>

#include "tensor/gemm.h"
#include "tensor/matrix.h"

namespace strata::model {

struct AttentionShape {
  std::size_t heads = 0;
  std::size_t kv_heads = 0;
  std::size_t head_dim = 0;
  std::size_t window = 0;
  bool causal = true;  // false: every query sees all keys of its segment; no window then
};

/// One record: queries are rows [q_first, q_first + q_count) of Q, keys rows [k_first, k_first +
/// k_count) of K and V. The last query stands at the last key (k_count >= q_count; more when
/// earlier keys come from a cache).
struct AttentionSegment {
  std::size_t q_first = 0;
  std::size_t q_count = 0;
  std::size_t k_first = 0;
  std::size_t k_count = 0;
};

/// A piece of the forward work: some queries of one record for the heads that share one key head.
struct AttentionTask {
  std::size_t segment = 0;
  std::size_t kv_head = 0;
  std::size_t first = 0;  // query within the segment
  std::size_t count = 0;
};

/// All pieces of at most `queries` queries, the dearest first, so that threads finish together.
[[nodiscard]] std::vector<AttentionTask> attention_tasks(std::span<const AttentionSegment> segments,
                                                         const AttentionShape& shape,
                                                         std::size_t queries);

/// What a thread lends the operations: `scratch` grows as needed.
struct AttentionTools {
  tensor::Gemm& gemm;
  std::vector<float>& scratch;
  tensor::DType products = tensor::DType::kF32;  // or kBF16, where the CPU has them
};

/// Floats of scratch that the operations need for a record.
[[nodiscard]] std::size_t attention_scratch(const AttentionSegment& s, const AttentionShape& shape,
                                            tensor::DType products, bool backward);

/// What the operations read. `lse` (T x H) is the log sum exp of each row's scores: kept by the
/// forward pass for the backward one (empty view: not kept).
struct AttentionInput {
  tensor::ConstMatrixView q, k, v;
  tensor::MatrixView lse;
};

/// Rows of o for one piece, overwritten.
void attention_forward(tensor::MatrixView o, const AttentionInput& in, const AttentionSegment& s,
                       const AttentionTask& task, const AttentionShape& shape,
                       const AttentionTools& tools);

/// dots[t,h] = dO[t,h] . O[t,h], which the backward pass needs of each row.
void attention_dots(float* dots, const float* d_o, const float* o, const AttentionShape& shape);

/// dq, dk, dv for one record and key head: overwritten for the record's rows (q_count == k_count).
/// dots: T x H.
void attention_backward(tensor::MatrixView dq, tensor::MatrixView dk, tensor::MatrixView dv,
                        tensor::ConstMatrixView d_o, tensor::ConstMatrixView dots,
                        const AttentionInput& in, const AttentionSegment& s, std::size_t kv_head,
                        const AttentionShape& shape, const AttentionTools& tools);

}  // namespace strata::model

#pragma once
// Causal attention over packed records: block-diagonal, grouped-query, optional sliding window,
// computed block by block of queries, so that no more than a block of one head's scores exists at a
// time.
//   O = softmax(Q K^T / sqrt(d) + mask) V;  query i of a segment sees keys max(0, i - window + 1)
//   .. i       (window 0: all)
// Rows are tokens. Q, O: T x H*d; K, V: T_k x H_kv*d; head h uses key/value head h / (H / H_kv).
#include <cstdint>
#include <span>
#include <vector>

#include "tensor/matrix.h"

namespace strata::model {

struct AttentionShape {
  std::size_t heads = 0;
  std::size_t kv_heads = 0;
  std::size_t head_dim = 0;
  std::size_t window = 0;
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

/// o overwritten; lse (T x H) gets log sum exp of each row's scores, for the backward pass (empty
/// view: not kept).
void attention_forward(tensor::MatrixView o, tensor::MatrixView lse, tensor::ConstMatrixView q,
                       tensor::ConstMatrixView k, tensor::ConstMatrixView v,
                       std::span<const AttentionSegment> segments, const AttentionShape& shape);

/// dq, dk, dv overwritten for the rows of the segments (which must have q_count == k_count).
void attention_backward(tensor::MatrixView dq, tensor::MatrixView dk, tensor::MatrixView dv,
                        tensor::ConstMatrixView d_o, tensor::ConstMatrixView o,
                        tensor::ConstMatrixView lse, tensor::ConstMatrixView q,
                        tensor::ConstMatrixView k, tensor::ConstMatrixView v,
                        std::span<const AttentionSegment> segments, const AttentionShape& shape);

}  // namespace strata::model

#pragma once
// The inside of Decoder, shared by its forward, backward and head files only.
#include <span>
#include <vector>

#include "model/decoder.h"
#include "model/ops/attention.h"
#include "model/ops/norm.h"
#include "model/ops/rope.h"
#include "tensor/gemm.h"

namespace strata::model {

/// Reusable floats: grows, never shrinks, contents undefined after growth.
class Buffer {
 public:
  [[nodiscard]] std::span<float> floats(std::size_t n) {
    if (values_.size() < n) values_ = std::vector<float>(n);
    return std::span(values_).first(n);
  }
  [[nodiscard]] tensor::MatrixView matrix(std::size_t rows, std::size_t cols) {
    return {floats(rows * cols).data(), rows, cols};
  }
  [[nodiscard]] std::size_t bytes() const { return values_.size() * sizeof(float); }

 private:
  std::vector<float> values_;
};

/// The tokens of a pass and how attention sees them.
struct Layout {
  std::span<const std::int32_t> tokens;
  std::vector<std::uint32_t> positions;  // of each row within its record
  std::vector<AttentionSegment> segments;
  std::span<const std::uint32_t>
      record_offsets;  // rows of records, for per-record gradients and caches
  [[nodiscard]] std::size_t rows() const { return tokens.size(); }
};

/// What one layer keeps from forward to backward.
struct LayerCache {
  Buffer x, mid;  // T x D: input, and input of the second half
  Buffer rstd1, mean1, rstd2, mean2;
  Buffer qkv;                 // T x (H + 2 H_kv) d, after bias, norm and rotation
  Buffer qk_raw, qk_rstd;     // before q/k norm
  Buffer attended, lse;       // T x H d, T x H
  Buffer gate, up;            // T x F
  std::vector<Buffer> saved;  // per site of the layer: the adapter's
};

/// Which linear sites of a layer there are, lowest first: the backward pass stops below the lowest
/// one that is trained.
enum class Stage { kQkv = 0, kOut = 1, kUp = 2, kDown = 3, kNothing = 4 };

struct Decoder::Impl {
  const Model& model;
  DecoderOptions options;
  tensor::Gemm gemm;
  RopeTable rope;
  Layout layout;
  std::vector<LayerCache>
      caches;  // one per layer that is kept; the last is the scratch of layers that are not
  Buffer hidden, hidden2;  // T x D streams of layers that keep nothing
  Buffer normed, inner, inner2, dqkv, dx, dnormed, dattended;
  Buffer head_rows, head_rstd, head_mean, head_normed, head_grad, head_logits, head_loss,
      head_weights;
  std::vector<std::uint8_t> head_correct;
  std::vector<tensor::BFloat16> x_half, dy_half;
  std::vector<float> adapter_floats;
  std::vector<tensor::BFloat16> adapter_halves;

  Impl(const Model& m, DecoderOptions o);

  // decoder.cpp
  void lay_out(const PackedBatch& batch);
  adapter::AdapterPass pass(const TrainRequest* request);
  tensor::Operand as_operand(tensor::ConstMatrixView x, std::vector<tensor::BFloat16>& half) const;
  AttentionShape attention_shape(std::size_t layer) const;

  // decoder_forward.cpp
  void embed(tensor::MatrixView x);
  void linear(std::size_t site, const tensor::Operand& x, tensor::MatrixView y, bool accumulate,
              LayerCache& cache, const adapter::AdapterSet* adapters, adapter::AdapterPass& pass);
  void normalise(std::size_t gain, std::size_t bias, tensor::ConstMatrixView x,
                 tensor::MatrixView y, Buffer& rstd, Buffer& mean);
  void attend(std::size_t layer, LayerCache& cache, KvCache* kv);
  /// out = layer(x); `x` may be the cache's own. Everything the backward pass needs is left in
  /// `cache`.
  void forward_layer(std::size_t layer, tensor::ConstMatrixView x, tensor::MatrixView out,
                     LayerCache& cache, const adapter::AdapterSet* adapters,
                     adapter::AdapterPass& pass, KvCache* kv);
  /// Runs all layers; layers >= first_kept keep their caches. Returns the last hidden states.
  tensor::MatrixView forward(const adapter::AdapterSet* adapters, adapter::AdapterPass& pass,
                             std::size_t first_kept, KvCache* kv);
  tensor::MatrixView q_of(LayerCache& cache);
  tensor::MatrixView k_of(LayerCache& cache);
  tensor::MatrixView v_of(LayerCache& cache);
  std::size_t site_in_layer(std::size_t site) const;

  // decoder_backward.cpp
  void backward(const TrainRequest& request, std::size_t first_layer, Stage lowest);
  void backward_layer(std::size_t layer, const TrainRequest& request, adapter::AdapterPass& pass,
                      Stage lowest);
  void linear_backward(std::size_t site, tensor::ConstMatrixView x, tensor::ConstMatrixView dy,
                       tensor::MatrixView d_in, bool accumulate, LayerCache& cache,
                       const TrainRequest& request, adapter::AdapterPass& pass);
  void attention_part_backward(std::size_t layer, LayerCache& cache, const TrainRequest& request,
                               adapter::AdapterPass& pass, Stage lowest);
  void mlp_backward(std::size_t layer, LayerCache& cache, const TrainRequest& request,
                    adapter::AdapterPass& pass, Stage lowest);
  void norm_gradient(std::size_t gain, std::size_t bias, tensor::ConstMatrixView dy,
                     tensor::ConstMatrixView x, NormStats stats, tensor::MatrixView d_in,
                     const TrainRequest& request);
  void embedding_backward(const TrainRequest& request);

  // decoder_head.cpp
  /// Losses of the batch from the last hidden states; with a request, dx (T x D) is overwritten by
  /// their gradient.
  LossSums head(const PackedBatch& batch, tensor::ConstMatrixView hidden_states,
                const TrainRequest* request);
  tensor::Matrix all_logits(tensor::ConstMatrixView hidden_states);
};

}  // namespace strata::model

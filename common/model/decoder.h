#pragma once
// Forward and backward of a decoder over packed records, with adapters on any of its linear layers.
// T tokens of a batch, N trained positions, D hidden, F inner width, V vocabulary.
//   loss of record i = sum over its trained positions n of  -log softmax(h_n W_head^T)[target_n]
// Logits exist only for trained positions, a chunk of rows at a time. The Model is shared and only
// read; buffers and compute threads are the Workspace's. The same call on a team of the same size
// gives the same bits.
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "adapter/adapter_set.h"
#include "model/batch.h"
#include "model/model.h"
#include "model/workspace.h"
#include "tensor/matrix.h"

namespace strata::model {

/// What a pass found, per record (segment) of the batch.
struct LossSums {
  std::vector<double> loss;            // sum over trained positions
  std::vector<std::uint32_t> trained;  // number of trained positions
  std::vector<std::uint32_t> correct;  // of which the largest logit was the target

  [[nodiscard]] double total_loss() const;
  [[nodiscard]] std::uint64_t total_trained() const;
  [[nodiscard]] std::uint64_t total_correct() const;
};

/// Gradients of parameters that are trained themselves: one f32 vector per Model parameter, in
/// storage order; empty for one that is not.
struct FullGradients {
  std::vector<std::vector<float>> values;
  /// Of every parameter.
  [[nodiscard]] static FullGradients zeros(const Model& model);
  /// Of those given by index.
  [[nodiscard]] static FullGradients zeros(const Model& model,
                                           std::span<const std::size_t> parameters);
  [[nodiscard]] bool wanted(std::size_t parameter) const {
    return parameter < values.size() && !values[parameter].empty();
  }
};

struct DecoderOptions {
  bool recompute =
      false;  // keep only each layer's input and run the layer again in the backward pass
  std::size_t logit_bytes = 64u << 20;  // memory for the logits under way at a time, all threads
  std::size_t block_rows = 256;         // tokens a compute thread takes through a layer at a time
};

/// What to differentiate and how much each record weighs.
struct TrainRequest {
  adapter::AdapterSet* adapters = nullptr;  // either or both
  FullGradients* full = nullptr;
  std::span<const float> record_weights;  // gradient of sum_i weight_i * loss_i
  const adapter::RecordGradients* records =
      nullptr;             // per-record adapter gradients instead of the sum
  sys::Stream dropout{0};  // of this step
  /// Of adapters with N heads: N + 1 rows of the batch, head h has those between h and h + 1.
  std::span<const std::uint32_t> head_rows = {};
};

/// Keys and values of generated sequences, so that each new token costs one row.
class KvCache {
 public:
  KvCache(const Model& model, std::size_t sequences, std::size_t capacity);
  [[nodiscard]] std::size_t length(std::size_t sequence) const { return lengths_[sequence]; }
  [[nodiscard]] std::size_t capacity() const { return capacity_; }

 private:
  friend class Decoder;
  std::size_t capacity_;
  std::vector<std::size_t> lengths_;
  std::vector<tensor::Matrix> k_, v_;  // per layer: sequences * capacity rows
};

/// Tokens to append to sequences of a cache.
struct CacheStep {
  std::size_t sequence = 0;
  std::span<const std::int32_t> tokens;
};

/// A pass to plan for.
struct PassPlan {
  std::size_t tokens = 0;
  std::size_t targets = 0;  // trained positions
  std::size_t longest = 0;  // tokens of the longest record
  const adapter::AdapterSet* adapters = nullptr;
  bool gradients = true;
  bool full = false;  // of every parameter
};

/// Bytes of a workspace of `threads` threads after such a pass. Nothing is computed, and no memory
/// is used up.
[[nodiscard]] std::size_t pass_bytes(const Model& model, int threads, const DecoderOptions& options,
                                     const PassPlan& plan);

class Decoder {
 public:
  /// `model` and `workspace` are borrowed and must outlive this; the model's parameters may change
  /// between calls, and the workspace may serve others between calls.
  Decoder(const Model& model, Workspace& workspace, DecoderOptions options = {});
  Decoder(Decoder&&) noexcept;
  ~Decoder();

  /// Losses only. `adapters` (may be null) must be prepared.
  [[nodiscard]] LossSums evaluate(const PackedBatch& batch, const adapter::AdapterSet* adapters);
  /// Losses and gradients, which are added to what is there.
  [[nodiscard]] LossSums train(const PackedBatch& batch, const TrainRequest& request);
  /// Logits of every row (T x V): for tests and comparisons, not for training.
  [[nodiscard]] tensor::Matrix logits(const PackedBatch& batch,
                                      const adapter::AdapterSet* adapters);
  /// Appends tokens to sequences; row i of the result (steps x V) predicts what follows step i.
  /// Each sequence at most once a call, and its length plus tokens within capacity.
  [[nodiscard]] tensor::Matrix extend(KvCache& cache, std::span<const CacheStep> steps,
                                      const adapter::AdapterSet* adapters);

  /// The compute threads it works with, for what comes before and after a pass.
  [[nodiscard]] tensor::Team& team() const;
  /// Where the calling thread's time is recorded; null when nobody asked.
  [[nodiscard]] sys::Timeline* timeline() const;

 private:
  friend std::size_t pass_bytes(const Model&, int, const DecoderOptions&, const PassPlan&);
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace strata::model

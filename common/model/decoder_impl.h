#pragma once
// The inside of Decoder and Workspace, shared by their own files only. A pass over T tokens goes in
// phases: between two barriers each compute thread takes blocks of rows through everything that
// looks at one row at a time (norms, products, activations), so that a block stays in its cache;
// attention, which looks across rows, and gradients of weights, which sum over them, are tasks of
// their own phase.
#include <memory>
#include <span>
#include <vector>

#include "model/decoder.h"
#include "model/ops/activation.h"
#include "model/ops/attention.h"
#include "model/ops/norm.h"
#include "model/ops/rope.h"
#include "tensor/gemm.h"
#include "tensor/typed_rows.h"

namespace strata::model {

inline constexpr std::size_t kSitesMax = 8;  // linear layers of one transformer layer

/// bf16 products like whole 16s of rows: what remains is a product of its own, which reads all of
/// the weights for a few rows (tensor/gemm.cpp). Buffers have room for them.
inline constexpr std::size_t kUnit = 16;
[[nodiscard]] inline std::size_t whole_units(std::size_t rows) {
  return (rows + kUnit - 1) / kUnit * kUnit;
}

/// Reusable memory, aligned for vectors: grows, never shrinks, contents undefined after growth.
class Buffer {
 public:
  /// Room for `n` floats from now on. Only between phases.
  void reserve(std::size_t n);
  [[nodiscard]] std::span<float> floats(std::size_t n) {
    check(n <= size_, "decoder: a buffer is too small");
    return {data_, n};
  }
  [[nodiscard]] tensor::MatrixView matrix(std::size_t rows, std::size_t cols) {
    return {floats(rows * cols).data(), rows, cols};
  }
  /// Rows in the compute type, in the same memory.
  [[nodiscard]] tensor::TypedRows typed(std::size_t rows, std::size_t cols, tensor::DType type) {
    return {floats(floats_of(rows, cols, type)).data(), type, rows, cols};
  }
  void reserve(std::size_t rows, std::size_t cols, tensor::DType type) {
    reserve(floats_of(rows, cols, type));
  }
  [[nodiscard]] std::size_t bytes() const { return size_ * sizeof(float); }

 private:
  static std::size_t floats_of(std::size_t rows, std::size_t cols, tensor::DType type) {
    return (rows * cols * tensor::size_of(type) + sizeof(float) - 1) / sizeof(float);
  }
  std::unique_ptr<float[]> memory_;
  float* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Neighbouring rows of the batch.
struct Block {
  std::size_t first = 0;
  std::size_t count = 0;
};

/// The tokens of a pass and how attention sees them.
struct Layout {
  std::span<const std::int32_t> tokens;
  std::vector<std::uint32_t> positions;  // of each row within its record
  std::vector<AttentionSegment> segments;
  std::vector<AttentionTask> attention;  // pieces of one full-attention layer
  std::vector<Block> blocks;
  std::span<const std::uint8_t> pixels;  // of images
  [[nodiscard]] std::size_t rows() const { return tokens.size(); }
};

/// What one layer keeps from forward to backward. "typed": in the compute type.
struct LayerCache {
  Buffer x, mid;  // T x D: input, and input of the second half
  Buffer rstd1, mean1, rstd2, mean2;
  Buffer qkv;                            // T x (H + 2 H_kv) d, after bias, norm and rotation
  Buffer qk_raw, qk_rstd;                // before q/k norm
  Buffer attended, lse;                  // T x H d typed, T x H
  Buffer gate, up;                       // T x F typed
  std::vector<Buffer> saved{kSitesMax};  // per site of the layer: the adapter's
  template <class Visit>
  void for_buffers(const Visit& visit) {
    for (Buffer* b : {&x, &mid, &rstd1, &mean1, &rstd2, &mean2, &qkv, &qk_raw, &qk_rstd, &attended,
                      &lse, &gate, &up})
      visit(*b);
    for (Buffer& b : saved) visit(b);
  }
};

/// What one compute thread has of its own.
struct Member {
  tensor::Gemm gemm;
  adapter::AdapterScratch adapter;
  std::vector<float> attention;
  Buffer rows;                       // a few rows of the widest matrix
  Buffer normed, gate, up, act, dh;  // a block of rows: T_block x D or F
  sys::Timeline* timeline = nullptr;
  template <class Visit>
  void for_buffers(const Visit& visit) {
    for (Buffer* b : {&rows, &normed, &gate, &up, &act, &dh}) visit(*b);
  }
};

/// One chunk of trained positions on its way through the output head.
struct HeadSlot {
  Buffer rows, rstd, mean, normed, logits, dh, dgain, dbias, dhead;
  template <class Visit>
  void for_buffers(const Visit& visit) {
    for (Buffer* b : {&rows, &rstd, &mean, &normed, &logits, &dh, &dgain, &dbias, &dhead})
      visit(*b);
  }
};

struct Workspace::State {
  tensor::Team team;
  std::vector<Member> members;
  std::vector<HeadSlot> slots;
  sys::Profile* profile = nullptr;
  std::vector<LayerCache> caches;  // of the layers that are kept
  LayerCache scratch;              // of those that are not
  Buffer hidden, hidden2;          // T x D streams of layers that keep nothing
  Buffer patches;                  // of images: T x values of a patch, typed
  Buffer attended;                 // T x H d, float, when the compute type is not
  // Backward, T rows each: gradients of a layer's output and of its middle (float, and typed), ...
  Buffer dx, dmid, dx_typed, dmid_typed;
  Buffer h1, h2, act;  // ... inputs of its products again (typed), ...
  Buffer dgate, dup, d_attended, dots;
  Buffer dqkv[2], dqkv_typed;  // ... float ones in turn, so that two layers can be under way.
  std::vector<Buffer> through{kSitesMax};
  Buffer norm_partials[4];  // full training: a row a block
  Buffer head_loss, head_weights;
  std::vector<std::uint8_t> head_correct;

  explicit State(int threads);
  template <class Visit>
  void for_buffers(const Visit& visit) {
    for (auto& m : members) m.for_buffers(visit);
    for (auto& s : slots) s.for_buffers(visit);
    for (auto& c : caches) c.for_buffers(visit);
    scratch.for_buffers(visit);
    for (Buffer* b : {&hidden,
                      &hidden2,
                      &attended,
                      &patches,
                      &dx,
                      &dmid,
                      &dx_typed,
                      &dmid_typed,
                      &h1,
                      &h2,
                      &act,
                      &dgate,
                      &dup,
                      &d_attended,
                      &dots,
                      &dqkv[0],
                      &dqkv[1],
                      &dqkv_typed,
                      &norm_partials[0],
                      &norm_partials[1],
                      &norm_partials[2],
                      &norm_partials[3],
                      &head_loss,
                      &head_weights})
      visit(*b);
    for (Buffer& b : through) visit(b);
  }
};

[[nodiscard]] inline Gelu gelu_form(MlpKind mlp) {
  return mlp == MlpKind::kGeluErf ? Gelu::kErf : Gelu::kTanh;
}

/// Which linear sites of a layer there are, lowest first: the backward pass stops below the lowest
/// one that is trained.
enum class Stage { kQkv = 0, kOut = 1, kUp = 2, kDown = 3, kNothing = 4 };

/// What a pass is about; set for its duration.
struct Pass {
  const adapter::AdapterSet* adapters = nullptr;
  const TrainRequest* request = nullptr;  // null: no gradients
  KvCache* kv = nullptr;
  std::size_t first_kept = 0;  // layers from here on keep what the backward pass needs
};

/// A gradient of one adapter or weight that waits for the next task phase.
struct GradientTask {
  std::size_t site = 0;
  std::size_t part = 0;   // of the adapter; or first row of the weight as stored
  std::size_t count = 0;  // full training: rows of the weight
  bool bias = false;      // of the bias instead
  tensor::TypedRows x, dy;
  LayerCache* cache = nullptr;
};

struct Decoder::Impl {
  const Model& model;
  Workspace::State& work;
  DecoderOptions options;
  RopeTable rope;
  Layout layout;
  Pass pass;
  bool splitting = false;  // one block: its products are shared out by columns
  std::vector<GradientTask> waiting;
  std::vector<const adapter::Adapter*> sites;  // of the pass, by linear site

  Impl(const Model& m, Workspace::State& w, DecoderOptions o);

  // decoder.cpp
  void lay_out(const PackedBatch& batch);
  void lay_out_blocks();
  void begin(const Pass& what);
  void reserve_forward();
  void reserve_backward();
  std::vector<Block> reserve_head(std::size_t targets);  // and how it is cut into chunks
  adapter::AdapterPass adapter_pass(Member& m, std::size_t first_row) const;
  AttentionShape attention_shape(std::size_t layer) const;
  AttentionTools attention_tools(Member& m) const;
  NormWeights norm_weights(std::size_t gain, std::size_t bias) const;
  static NormStats norm_stats(Buffer& rstd, Buffer& mean, Block rows);
  tensor::DType compute() const { return model.compute(); }
  /// work(block, member) for all blocks.
  template <class Work>
  void over_blocks(const Work& work_on) {
    if (layout.blocks.size() == 1) {
      splitting = work.team.size() > 1;
      work_on(layout.blocks.front(), work.members.front());
      splitting = false;
      return;
    }
    work.team.for_tasks(layout.blocks.size(), [&](std::size_t i, int member) {
      work_on(layout.blocks[i], work.members[static_cast<std::size_t>(member)]);
    });
  }
  std::size_t index_of(Block rows) const;  // of a block
  /// Rows behind a block that a product may take along, of which nobody reads what comes out.
  std::size_t spare_rows(Block rows) const;
  void product(Member& m, tensor::MatrixView out, const tensor::Operand& a,
               const tensor::Operand& b, bool accumulate, std::string_view what);

  // decoder_forward.cpp
  LayerCache& cache_of(std::size_t layer);
  tensor::MatrixView stream_of(std::size_t layer);  // where the input of `layer` lies
  tensor::MatrixView q_of(LayerCache& cache);
  tensor::MatrixView k_of(LayerCache& cache);
  tensor::MatrixView v_of(LayerCache& cache);
  tensor::MatrixView attended_of(LayerCache& cache);
  std::size_t site_in_layer(std::size_t site) const;
  void embed(Member& m, Block rows, tensor::MatrixView x);
  void embed_patches(Member& m, Block rows, tensor::MatrixView x);  // x: the block's rows
  tensor::TypedRows patches_of(Block rows);
  /// y (the block's rows) = or += the linear layer and its adapter.
  void linear(Member& m, std::size_t site, Block rows, const tensor::Operand& x,
              tensor::MatrixView y, bool accumulate, LayerCache& cache);
  void attention_input(Member& m, std::size_t layer, Block rows);
  void norm_and_turn(Member& m, std::size_t layer, Block rows, LayerCache& cache);
  void attend(std::size_t layer);
  void attention_output(Member& m, std::size_t layer, Block rows, tensor::MatrixView out);
  /// Runs all layers and returns the last hidden states.
  tensor::MatrixView forward();

  // decoder_backward.cpp
  void backward(std::size_t first_layer, Stage lowest);
  void run_layer_again(std::size_t layer);
  /// d_in (the block's rows, may be null) = or += through a linear layer and its adapter.
  void linear_backward(Member& m, std::size_t site, Block rows, const tensor::Operand& dy,
                       tensor::MatrixView d_in, bool accumulate);
  void mlp_backward(Member& m, std::size_t layer, Block rows, Stage lowest);
  void attention_backward_rows(Member& m, std::size_t layer, Block rows, bool below);
  void qk_norm_backward(Member& m, std::size_t layer, Block rows, LayerCache& cache,
                        tensor::MatrixView dq, tensor::MatrixView dk);
  tensor::TypedRows dqkv_of(std::size_t layer, std::size_t column, std::size_t width);

  // decoder_gradients.cpp
  void queue_gradients(std::size_t layer, Stage from, Stage to);
  void queue_site(std::size_t site, const tensor::TypedRows& x, const tensor::TypedRows& dy,
                  LayerCache& cache);
  void run_gradient(const GradientTask& task, Member& m);
  /// Attention of `layer` (kNone: of none) and all waiting gradients, side by side.
  void run_tasks(std::size_t attention_layer);
  void begin_norm_partials(int which, std::size_t width);
  void norm_gradient(int which, Block rows, tensor::ConstMatrixView dy, tensor::ConstMatrixView x,
                     NormStats stats, const NormWeights& weights);
  void end_norm_partials(int which, std::size_t gain, std::size_t bias);
  void embedding_backward();
  void patches_backward(tensor::ConstMatrixView grad);

  // decoder_head.cpp
  /// Losses of the batch from the last hidden states; with a request, dx (T x D) is overwritten by
  /// their gradient.
  LossSums head(const PackedBatch& batch, tensor::ConstMatrixView hidden_states);
  void head_chunk(Member& m, HeadSlot& slot, const PackedBatch& batch,
                  tensor::ConstMatrixView hidden_states, Block targets);
  void head_weight_gradient(std::span<const Block> chunks);
  tensor::Matrix all_logits(tensor::ConstMatrixView hidden_states);
};

}  // namespace strata::model

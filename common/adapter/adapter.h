#pragma once
// The seam of adapter methods: what one adapted linear layer y = W x does beside its frozen W.
// T tokens, r rank.
//   forward    y += delta(x)
//   backward   dx += delta^T(dy), then the gradients of the method's own tensors
// Several heads of one layer (LTE, Huh et al. 2024) are one adapter that shares its rows out.
// Order of calls: reset or load once; per step prepare, then forward, backward_input and
// backward_factors of each layer; optimizers write through params(); delta() between steps.
// Threads: forward and backward_input on disjoint rows, and backward_factors of different parts,
// run side by side (each with its own AdapterPass); anything else is for one thread. Copies of the
// base are shared, adapters are not.
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "adapter/delta_terms.h"
#include "adapter/param.h"
#include "base/result.h"
#include "sys/random.h"
#include "tensor/gemm.h"

namespace strata::adapter {

/// A linear layer that can carry an adapter.
struct LinearShape {
  std::string module;  // PEFT's name: "model.layers.0.self_attn.q_proj"
  std::size_t d_out = 0;
  std::size_t d_in = 0;
};

/// Memory that a compute thread lends, reused from call to call; contents undefined between calls.
struct AdapterScratch {
  std::vector<float> heads;  // what one head of several adds
  std::vector<float> floats;
  std::vector<tensor::BFloat16> input;  // a batch's input after dropout
  std::vector<tensor::BFloat16> inner;  // a product's r-wide operand
};

/// What a compute thread lends to the adapters it works on: the products, memory, this step's
/// draws.
struct AdapterPass {
  tensor::Gemm& gemm;
  AdapterScratch& scratch;
  bool training = false;      // dropout on
  sys::Stream dropout{0};     // of this pass; the adapter adds its own item
  std::size_t first_row = 0;  // of the given rows within the batch: dropout is drawn by row
  /// Head h works on rows [head_rows[h], head_rows[h + 1]) of the batch. Empty: on all, as a mean.
  std::span<const std::uint32_t> head_rows = {};
};

/// Where gradients go when each record's own is wanted: record i (rows offsets[i] .. offsets[i+1])
/// overwrites data + i * stride with its gradient of the whole adapter set; an adapter's part
/// starts at its offset in AdapterSet order.
struct RecordGradients {
  float* data = nullptr;
  std::size_t stride = 0;
  std::span<const std::uint32_t> offsets;
};

/// Factors given from outside (PEFT files, restart payloads): shape d_out x r and r x d_in, scale
/// not included.
struct Factors {
  tensor::Matrix b;
  tensor::Matrix a;
};

class Adapter {
 public:
  virtual ~Adapter() = default;
  [[nodiscard]] virtual const LinearShape& shape() const = 0;
  [[nodiscard]] virtual std::size_t rank() const = 0;
  /// s in s B A.
  [[nodiscard]] virtual double scale() const = 0;

  /// Brings compute copies up to date after parameters changed. `compute` is kF32 or kBF16.
  virtual void prepare(tensor::DType compute) = 0;
  /// Floats per token kept from forward to backward.
  [[nodiscard]] virtual std::size_t saved_width() const = 0;
  /// y (T x d_out) += delta(x); x: T x d_in in the compute type; saved: T x saved_width().
  virtual void forward(AdapterPass& pass, const tensor::Operand& x, tensor::MatrixView y,
                       tensor::MatrixView saved) const = 0;
  /// dx (T x d_in) += delta^T(dy), unless its data is null. `through` (T x saved_width(),
  /// overwritten) gets what backward_factors needs of dy. dy: T x d_out in the compute type.
  virtual void backward_input(AdapterPass& pass, const tensor::Operand& dy, tensor::MatrixView dx,
                              tensor::MatrixView through) const = 0;
  /// Adds the gradient of params()[part] over all rows of the batch to its grad, or, when `records`
  /// is given, writes each record's to its own vector at `offset`. x, dy, saved, through as above.
  virtual void backward_factors(AdapterPass& pass, std::size_t part, const tensor::Operand& x,
                                const tensor::Operand& dy, tensor::ConstMatrixView saved,
                                tensor::ConstMatrixView through, const RecordGradients* records,
                                std::size_t offset) = 0;
  /// Number of params().
  [[nodiscard]] virtual std::size_t parts() const = 0;

  /// Trainable tensors in a fixed order; record gradients lie in the same order.
  [[nodiscard]] virtual std::vector<ParamRef> params() = 0;
  /// What training did since the last base: product minus anchor, scale folded into B. With merges
  /// in between, of all that came since reset() or anchor().
  [[nodiscard]] virtual TensorDelta delta() const = 0;
  /// The present product alone (no anchor), scale folded into B: what evaluation on an unmerged
  /// base adds.
  [[nodiscard]] virtual TensorDelta product() const = 0;

  /// Fresh factors from `stream`, no anchor: the product is zero.
  virtual void reset(const sys::Stream& stream) = 0;
  /// The present product has been folded into the base: from now on it is subtracted, and factors
  /// stay (LTE without reset).
  virtual void anchor() = 0;
  /// The same for a base that is a round late: it has the product as it was when the round began
  /// (nothing, in the first), which is subtracted; what came since is not in it yet.
  virtual void anchor_late() = 0;

  // Merging between rounds: what was trained goes into a model that only this client works on.
  /// What has not been folded in yet: since reset(), anchor(), or the last merge.
  [[nodiscard]] virtual TensorDelta increment() const = 0;
  /// The increment has been folded in; factors stay and are subtracted, as by anchor(), but delta()
  /// goes on telling it.
  virtual void mark_merged() = 0;
  /// The increment has been folded in; fresh factors, product zero. delta() goes on telling it.
  /// Not after anchor().
  virtual void restart_merged(const sys::Stream& stream) = 0;
  /// Gives back what only training needs, gradients and compute copies, and what was folded into
  /// the base: before the next pass comes begin(), and one of reset(), load() and anchor(); or, if
  /// `late`, anchor_late().
  virtual void rest(bool late) = 0;
  /// After rest(): parameters have gradients again.
  virtual void begin() = 0;
  /// Adapters that share the batch (adapter/multi_head.h).
  [[nodiscard]] virtual std::size_t heads() const { return 1; }

  /// Takes factors as they are (scale applies on top); kIncompatibleUpdate when the shapes do not
  /// fit, or A is another than the one that a seeded method drew.
  [[nodiscard]] virtual Result<void> load(const Factors& factors) = 0;
};

/// What a method is made with.
struct AdapterSpec {
  std::size_t rank = 8;
  double alpha = 16.0;
  double dropout = 0.0;
  double lr_ratio_b = 1.0;  // LoRA+: learning rate of B over that of A
  bool freeze_a = false;    // LoRA-FA: A stays as it was drawn
  sys::Stream shared{0};    // the same for all clients of a run: frozen factors come from here
  std::uint32_t round = 1;  // that the factors are made for
  double share = 1.0;       // of this adapter in what is exported: 1/N of N heads
};

struct AdapterMethod {
  std::string_view name;
  std::string_view help;
  std::unique_ptr<Adapter> (*make)(const LinearShape& shape, const AdapterSpec& spec);
  /// A is drawn from the seed for each round (adapter/seeded_factors.h) and no update carries it:
  /// factors cannot be kept over rounds, nor given.
  bool seeded = false;
  /// Both factors are the client's own and trained: several of them can work beside each other.
  bool own_factors = true;
};

/// Every method, in the order shown to users.
[[nodiscard]] std::span<const AdapterMethod> methods();
/// kConfig with the nearest name when unknown.
[[nodiscard]] Result<const AdapterMethod*> find_method(std::string_view name);

}  // namespace strata::adapter

#pragma once
// One tensor of a model: as it lies in the checkpoint (memory-mapped, shared, read-only) until
// something is folded into it or it is trained, from when an f32 master copy is the truth and the
// compute copy is made from it. bf16 alone would lose small updates (docs/methods/flora.md).
// Threads: const members may be called from several threads; changing ones need exclusive use.
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/hash.h"
#include "base/result.h"
#include "formats/safetensors.h"
#include "tensor/dtype.h"
#include "tensor/gemm.h"

namespace strata::model {

class Parameter {
 public:
  /// A stored tensor. `rows` x `cols` as stored (a vector is n x 1). Matrices compute in `compute`
  /// (kF32 or kBF16), vectors always in f32. kFormat when the values cannot be used.
  [[nodiscard]] static Result<Parameter> stored(std::string name, std::size_t rows,
                                                std::size_t cols, bool transposed,
                                                tensor::DType compute,
                                                const formats::StoredTensor& tensor,
                                                const std::string& where);
  /// Values made here (initialisation from scratch).
  [[nodiscard]] static Parameter made(std::string name, std::size_t rows, std::size_t cols,
                                      bool transposed, tensor::DType compute,
                                      std::vector<float> values);

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] std::size_t rows() const { return rows_; }
  [[nodiscard]] std::size_t cols() const { return cols_; }
  [[nodiscard]] std::size_t size() const { return rows_ * cols_; }
  [[nodiscard]] bool is_vector() const { return cols_ == 1; }
  /// As files have it: {rows}, {rows, cols}, or what was set (a convolution's four sides).
  [[nodiscard]] std::vector<std::size_t> shape() const;
  /// Empty: that of a vector or matrix. Of as many values.
  void set_shape(std::vector<std::size_t> shape) { shape_ = std::move(shape); }
  /// True when stored d_in x d_out.
  [[nodiscard]] bool transposed() const { return transposed_; }
  [[nodiscard]] std::size_t d_out() const { return transposed_ ? cols_ : rows_; }
  [[nodiscard]] std::size_t d_in() const { return transposed_ ? rows_ : cols_; }

  /// For products, in the mathematical orientation d_out x d_in.
  [[nodiscard]] tensor::Operand operand() const;
  /// A vector's values (f32). Only for vectors.
  [[nodiscard]] std::span<const float> vector() const;
  /// out[0..cols) = row i as float.
  void copy_row(std::size_t i, float* out) const;
  /// Current exact values as float, in storage order.
  void copy_values(std::span<float> out) const;

  /// The f32 master, made on first call from the stored values; after writing to it call refresh().
  [[nodiscard]] std::span<float> master();
  [[nodiscard]] bool has_master() const { return !master_.empty(); }
  /// Whether its values lie in the checkpoint's mapping.
  [[nodiscard]] bool is_mapped() const { return mapped_ != nullptr; }
  /// Brings the compute copy up to date with the master.
  void refresh();

  /// SHA-256 of the values as little-endian f32.
  [[nodiscard]] Sha256 hash() const;
  /// Bytes this object keeps beside the shared mapping.
  [[nodiscard]] std::size_t owned_bytes() const;

 private:
  std::string name_;
  std::size_t rows_ = 0;
  std::size_t cols_ = 0;
  std::vector<std::size_t> shape_;
  bool transposed_ = false;
  tensor::DType compute_ = tensor::DType::kF32;
  const std::byte* mapped_ =
      nullptr;  // stored bytes in the compute type, when they can be used as they lie
  std::vector<float> master_;  // f32 values, the truth when present (and the compute copy when f32)
  std::vector<tensor::BFloat16> half_;  // owned bf16 compute copy
};

}  // namespace strata::model

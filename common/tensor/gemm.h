#pragma once
// The matrix product of training: oneDNN behind a strided, dtype-aware call.
//   out (M x N, float)  =  scale * op(a) (M x K) * op(b) (K x N)   [+ out]
// with op(x) = x or its transpose; both operands float, or both bfloat16 with float accumulation.
#include <cstddef>
#include <memory>
#include <string>

#include "tensor/dtype.h"
#include "tensor/matrix.h"

namespace strata::tensor {

/// A borrowed row-major operand of type f32 or bf16; rows and cols as stored, before `transposed`.
struct Operand {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  std::size_t rows = 0;
  std::size_t cols = 0;
  std::size_t stride = 0;
  bool transposed = false;

  Operand() = default;
  Operand(ConstMatrixView m)  // NOLINT: a float matrix is an operand
      : data(m.data), rows(m.rows), cols(m.cols), stride(m.stride) {}
  Operand(MatrixView m) : Operand(ConstMatrixView(m)) {}  // NOLINT
  Operand(const void* d, DType t, std::size_t r, std::size_t c)
      : data(d), dtype(t), rows(r), cols(c), stride(c) {}

  [[nodiscard]] Operand t() const {
    Operand other = *this;
    other.transposed = !transposed;
    return other;
  }
  /// Rows [first, first + count) as stored.
  [[nodiscard]] Operand rows_from(std::size_t first, std::size_t count) const {
    Operand other = *this;
    other.data = static_cast<const std::byte*>(data) + first * stride * size_of(dtype);
    other.rows = count;
    return other;
  }
  /// Together with the `count` rows that follow in memory.
  [[nodiscard]] Operand more_rows(std::size_t count) const {
    Operand other = *this;
    other.rows += count;
    return other;
  }
  /// Columns [first, first + count) as stored.
  [[nodiscard]] Operand cols_from(std::size_t first, std::size_t count) const {
    Operand other = *this;
    other.data = static_cast<const std::byte*>(data) + first * size_of(dtype);
    other.cols = count;
    return other;
  }
  [[nodiscard]] std::size_t logical_rows() const { return transposed ? cols : rows; }
  [[nodiscard]] std::size_t logical_cols() const { return transposed ? rows : cols; }
};

/// The products of one thread: oneDNN engine, stream and the bf16 primitives made so far, by shape.
/// Not thread-safe: each member of a team has its own. A product runs on the calling thread alone
/// (tensor/team.h shares work out), so its bits depend on its operands only.
class Gemm {
 public:
  Gemm();
  Gemm(Gemm&&) noexcept;
  Gemm& operator=(Gemm&&) noexcept;
  ~Gemm();

  /// Shapes must agree (an assertion: callers derive them from a validated model). K = 0 or M = 0
  /// is allowed.
  void multiply(MatrixView out, const Operand& a, const Operand& b, bool accumulate,
                float scale = 1.0f);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The float product alone, without a state to keep.
void float_gemm(MatrixView out, const Operand& a, const Operand& b, bool accumulate,
                float scale = 1.0f);

/// Whether this CPU multiplies bf16 natively or by oneDNN's emulation; otherwise Gemm widens to
/// float first.
[[nodiscard]] bool has_fast_bf16();

/// Name of the instruction set oneDNN uses on this machine: "avx512_core_bf16", "avx2", ...
[[nodiscard]] std::string instruction_set();

}  // namespace strata::tensor

#pragma once
// Rows of f32 or bf16 values written from floats: what element-wise operations leave for matrix
// products to read. In f32 a row is computed where it lies; in bf16 in a scratch row first.
#include <algorithm>
#include <cstddef>

#include "tensor/convert.h"
#include "tensor/gemm.h"

namespace strata::tensor {

/// Borrowed rows x cols values, `stride` values from one row to the next.
struct TypedRows {
  void* data = nullptr;
  DType dtype = DType::kF32;
  std::size_t rows = 0;
  std::size_t cols = 0;
  std::size_t stride = 0;

  TypedRows() = default;
  TypedRows(MatrixView m)  // NOLINT: a float matrix is typed rows
      : data(m.data), rows(m.rows), cols(m.cols), stride(m.stride) {}
  TypedRows(void* d, DType t, std::size_t r, std::size_t c)
      : data(d), dtype(t), rows(r), cols(c), stride(c) {}

  operator Operand() const {  // NOLINT: what it is for
    Operand out(data, dtype, rows, cols);
    out.stride = stride;
    return out;
  }
  [[nodiscard]] TypedRows rows_from(std::size_t first, std::size_t count) const {
    TypedRows out = *this;
    out.data = static_cast<std::byte*>(data) + first * stride * size_of(dtype);
    out.rows = count;
    return out;
  }
  [[nodiscard]] TypedRows cols_from(std::size_t first, std::size_t count) const {
    TypedRows out = *this;
    out.data = static_cast<std::byte*>(data) + first * size_of(dtype);
    out.cols = count;
    return out;
  }

  /// Where to compute row i: the row itself, or `scratch` (cols floats).
  [[nodiscard]] float* open(std::size_t i, float* scratch) const {
    return dtype == DType::kF32 ? static_cast<float*>(data) + i * stride : scratch;
  }
  /// Ends what open() began.
  void close(std::size_t i, const float* scratch) const {
    if (dtype == DType::kBF16) to_bf16(static_cast<BFloat16*>(data) + i * stride, scratch, cols);
  }
  /// Row i as floats: the row itself, or converted into `scratch`.
  [[nodiscard]] const float* read(std::size_t i, float* scratch) const {
    if (dtype == DType::kF32) return static_cast<const float*>(data) + i * stride;
    to_float(scratch, static_cast<const BFloat16*>(data) + i * stride, cols);
    return scratch;
  }
  /// Rounds float rows into these.
  void take(ConstMatrixView values) const {
    for (std::size_t i = 0; i < values.rows; ++i) {
      if (dtype == DType::kBF16) {
        to_bf16(static_cast<BFloat16*>(data) + i * stride, values.row(i), cols);
      } else {
        std::copy_n(values.row(i), cols, static_cast<float*>(data) + i * stride);
      }
    }
  }
};

/// Rounds rows of floats to bf16 at the start of each row's own memory.
[[nodiscard]] inline TypedRows round_in_place(MatrixView values) {
  constexpr std::size_t kPiece = 512;
  BFloat16 piece[kPiece];
  for (std::size_t t = 0; t < values.rows; ++t) {
    auto* out = reinterpret_cast<std::byte*>(values.row(t));
    for (std::size_t i = 0; i < values.cols; i += kPiece) {
      const std::size_t count = std::min(kPiece, values.cols - i);
      to_bf16(piece, values.row(t) + i, count);
      std::copy_n(reinterpret_cast<const std::byte*>(piece), count * sizeof(piece[0]),
                  out + i * sizeof(piece[0]));
    }
  }
  TypedRows rounded(values.data, DType::kBF16, values.rows, values.cols);
  rounded.stride = 2 * values.stride;
  return rounded;
}

}  // namespace strata::tensor

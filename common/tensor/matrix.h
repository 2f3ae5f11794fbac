#pragma once
// Owning and borrowed row-major float matrices: the currency of factors, updates and activations.
#include <cstddef>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

namespace strata::tensor {

/// Borrowed rows x cols floats, row-major, `stride` floats from one row to the next (>= cols).
template <class T>
struct BasicView {
  T* data = nullptr;
  std::size_t rows = 0;
  std::size_t cols = 0;
  std::size_t stride = 0;

  BasicView() = default;
  BasicView(T* d, std::size_t r, std::size_t c) : data(d), rows(r), cols(c), stride(c) {}
  BasicView(T* d, std::size_t r, std::size_t c, std::size_t s)
      : data(d), rows(r), cols(c), stride(s) {}
  template <class U>
  requires(std::is_same_v<const U, T>)
      BasicView(const BasicView<U>& other)  // NOLINT: a mutable view is a const view
      : data(other.data), rows(other.rows), cols(other.cols), stride(other.stride) {}

  [[nodiscard]] T* row(std::size_t i) const { return data + i * stride; }
  [[nodiscard]] BasicView rows_from(std::size_t first, std::size_t count) const {
    return {data + first * stride, count, cols, stride};
  }
  /// Together with the `count` rows that follow in memory.
  [[nodiscard]] BasicView more_rows(std::size_t count) const {
    return {data, rows + count, cols, stride};
  }
  [[nodiscard]] BasicView cols_from(std::size_t first, std::size_t count) const {
    return {data + first, rows, count, stride};
  }
};
using MatrixView = BasicView<float>;
using ConstMatrixView = BasicView<const float>;

/// rows x cols floats, row-major, contiguous, zero on construction. A value: copies copy.
class Matrix {
 public:
  Matrix() = default;
  Matrix(std::size_t rows, std::size_t cols)
      : rows_(rows), cols_(cols), values_(rows * cols, 0.0f) {}
  Matrix(std::size_t rows, std::size_t cols, std::vector<float> values)
      : rows_(rows), cols_(cols), values_(std::move(values)) {}

  [[nodiscard]] std::size_t rows() const { return rows_; }
  [[nodiscard]] std::size_t cols() const { return cols_; }
  [[nodiscard]] std::size_t size() const { return values_.size(); }
  [[nodiscard]] bool empty() const { return values_.empty(); }
  [[nodiscard]] float* data() { return values_.data(); }
  [[nodiscard]] const float* data() const { return values_.data(); }
  [[nodiscard]] float& operator()(std::size_t i, std::size_t j) { return values_[i * cols_ + j]; }
  [[nodiscard]] float operator()(std::size_t i, std::size_t j) const {
    return values_[i * cols_ + j];
  }
  [[nodiscard]] std::span<float> values() { return values_; }
  [[nodiscard]] std::span<const float> values() const { return values_; }
  [[nodiscard]] MatrixView view() { return {values_.data(), rows_, cols_}; }
  [[nodiscard]] ConstMatrixView view() const { return {values_.data(), rows_, cols_}; }
  friend bool operator==(const Matrix&, const Matrix&) = default;

 private:
  std::size_t rows_ = 0;
  std::size_t cols_ = 0;
  std::vector<float> values_;
};

}  // namespace strata::tensor

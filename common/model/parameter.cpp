#include "model/parameter.h"

#include <algorithm>
#include <cstring>

#include "tensor/convert.h"

namespace strata::model {
namespace {

using tensor::BFloat16;
using tensor::DType;

// Index of the first NaN or infinity among bf16 words, or n.
std::size_t first_not_finite(const BFloat16* values, std::size_t n) {
  constexpr std::size_t kBlock = 4096;
  for (std::size_t i = 0; i < n; i += kBlock) {
    const std::size_t last = std::min(n, i + kBlock);
    unsigned bad = 0;
    for (std::size_t j = i; j < last; ++j) bad |= (values[j].bits & 0x7f80u) == 0x7f80u ? 1u : 0u;
    if (bad == 0) continue;
    for (std::size_t j = i; j < last; ++j) {
      if ((values[j].bits & 0x7f80u) == 0x7f80u) return j;
    }
  }
  return n;
}

std::size_t first_not_finite(const float* values, std::size_t n) {
  constexpr std::size_t kBlock = 4096;
  for (std::size_t i = 0; i < n; i += kBlock) {
    const std::size_t last = std::min(n, i + kBlock);
    unsigned bad = 0;
    for (std::size_t j = i; j < last; ++j) {
      bad |= (std::bit_cast<std::uint32_t>(values[j]) & 0x7f800000u) == 0x7f800000u ? 1u : 0u;
    }
    if (bad == 0) continue;
    for (std::size_t j = i; j < last; ++j) {
      if ((std::bit_cast<std::uint32_t>(values[j]) & 0x7f800000u) == 0x7f800000u) return j;
    }
  }
  return n;
}

}  // namespace

Result<Parameter> Parameter::stored(std::string name, std::size_t rows, std::size_t cols,
                                    bool transposed, DType compute,
                                    const formats::StoredTensor& stored_tensor,
                                    const std::string& where) {
  Parameter p;
  p.name_ = std::move(name);
  p.rows_ = rows;
  p.cols_ = cols;
  p.transposed_ = transposed;
  p.compute_ = cols == 1 ? DType::kF32 : compute;
  if (stored_tensor.dtype == p.compute_ && cols != 1) {
    const std::size_t n = p.size();
    const std::size_t bad =
        p.compute_ == DType::kBF16
            ? first_not_finite(reinterpret_cast<const BFloat16*>(stored_tensor.bytes.data()), n)
            : first_not_finite(reinterpret_cast<const float*>(stored_tensor.bytes.data()), n);
    if (bad != n) {
      return fail({.code = ErrorCode::kFormat,
                   .what = "value " + std::to_string(bad) + " is NaN or infinite",
                   .where = where + ": " + p.name_,
                   .rule = "weights are finite",
                   .remedy = "fetch or export the model again"});
    }
    p.mapped_ = stored_tensor.bytes.data();
    return p;
  }
  auto values = formats::to_float(stored_tensor, p.name_, where);
  if (!values) return fail(std::move(values).error());
  if (p.compute_ == DType::kBF16 && stored_tensor.dtype != DType::kF32) {
    // f16 to bf16: keep only the compute copy; its rounding is that of the chosen compute type.
    p.half_.resize(values->size());
    tensor::to_bf16(p.half_.data(), values->data(), values->size());
    return p;
  }
  p.master_ = std::move(*values);
  p.refresh();
  return p;
}

Parameter Parameter::made(std::string name, std::size_t rows, std::size_t cols, bool transposed,
                          DType compute, std::vector<float> values) {
  check(values.size() == rows * cols, "parameter: wrong number of values");
  Parameter p;
  p.name_ = std::move(name);
  p.rows_ = rows;
  p.cols_ = cols;
  p.transposed_ = transposed;
  p.compute_ = cols == 1 ? DType::kF32 : compute;
  p.master_ = std::move(values);
  p.refresh();
  return p;
}

std::vector<std::size_t> Parameter::shape() const {
  if (!shape_.empty()) return shape_;
  return is_vector() ? std::vector<std::size_t>{rows_} : std::vector<std::size_t>{rows_, cols_};
}

tensor::Operand Parameter::operand() const {
  const void* data = mapped_;
  if (!half_.empty()) {
    data = half_.data();
  } else if (compute_ == DType::kF32 && !master_.empty()) {
    data = master_.data();
  }
  tensor::Operand out(data, compute_, rows_, cols_);
  out.transposed = transposed_;
  return out;
}

std::span<const float> Parameter::vector() const {
  check(is_vector() && !master_.empty(), "parameter: not a vector");
  return master_;
}

void Parameter::copy_row(std::size_t i, float* out) const {
  const tensor::Operand view = operand();
  if (view.dtype == DType::kF32) {
    std::copy_n(static_cast<const float*>(view.data) + i * cols_, cols_, out);
  } else {
    tensor::to_float(out, static_cast<const BFloat16*>(view.data) + i * cols_, cols_);
  }
}

void Parameter::copy_values(std::span<float> out) const {
  check(out.size() == size(), "parameter: wrong output size");
  if (!master_.empty()) {
    std::copy(master_.begin(), master_.end(), out.begin());
    return;
  }
  for (std::size_t i = 0; i < rows_; ++i) copy_row(i, out.data() + i * cols_);
}

std::span<float> Parameter::master() {
  if (master_.empty()) {
    std::vector<float> values(size());
    copy_values(values);
    master_ = std::move(values);
    if (compute_ == DType::kF32) mapped_ = nullptr;
  }
  return master_;
}

void Parameter::refresh() {
  if (compute_ != DType::kBF16) return;
  half_.resize(size());
  tensor::to_bf16(half_.data(), master_.data(), master_.size());
  mapped_ = nullptr;
}

Sha256 Parameter::hash() const {
  Hasher hasher;
  if (!master_.empty()) {
    hasher.add(std::as_bytes(std::span(master_)));
    return hasher.finish();
  }
  std::vector<float> row(cols_);
  for (std::size_t i = 0; i < rows_; ++i) {
    copy_row(i, row.data());
    hasher.add(std::as_bytes(std::span(row)));
  }
  return hasher.finish();
}

std::size_t Parameter::owned_bytes() const {
  return master_.size() * sizeof(float) + half_.size() * sizeof(BFloat16);
}

}  // namespace strata::model

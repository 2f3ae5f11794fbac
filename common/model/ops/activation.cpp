#include "model/ops/activation.h"

#include "base/simd.h"
#include "model/ops/fast_math.h"
#include "tensor/parallel.h"

namespace strata::model {

using tensor::ConstMatrixView;
using tensor::MatrixView;

namespace {

constexpr std::size_t kRowsPerTask = 8;
constexpr float kGeluScale = 0.7978845608f;  // sqrt(2 / pi)
constexpr float kGeluCubic = 0.044715f;

STRATA_SIMD void swiglu_row(float* a, const float* g, const float* u, std::size_t n) {
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i) a[i] = g[i] * sigmoid_fast(g[i]) * u[i];
}

STRATA_SIMD void swiglu_backward_row(float* dg, float* du, const float* d, const float* g,
                                     const float* u, std::size_t n) {
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i) {
    const float s = sigmoid_fast(g[i]);
    const float silu = g[i] * s;
    const float da = d[i];
    dg[i] = da * u[i] * (s + silu * (1.0f - s));
    du[i] = da * silu;
  }
}

STRATA_SIMD void gelu_row(float* a, const float* u, std::size_t n) {
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i) {
    const float inner = kGeluScale * (u[i] + kGeluCubic * u[i] * u[i] * u[i]);
    a[i] = 0.5f * u[i] * (1.0f + tanh_fast(inner));
  }
}

STRATA_SIMD void gelu_backward_row(float* du, const float* d, const float* u, std::size_t n) {
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i) {
    const float x = u[i];
    const float th = tanh_fast(kGeluScale * (x + kGeluCubic * x * x * x));
    const float inner = kGeluScale * (1.0f + 3.0f * kGeluCubic * x * x);
    du[i] = d[i] * (0.5f * (1.0f + th) + 0.5f * x * (1.0f - th * th) * inner);
  }
}

STRATA_SIMD void add_row(float* y, const float* x, std::size_t n) {
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i) y[i] += x[i];
}

template <class Row>
void for_rows(std::size_t rows, const Row& row) {
  tensor::parallel_for(rows, kRowsPerTask, [&](std::size_t first, std::size_t last) {
    for (std::size_t t = first; t < last; ++t) row(t);
  });
}

}  // namespace

void swiglu_forward(MatrixView act, ConstMatrixView gate, ConstMatrixView up) {
  for_rows(act.rows,
           [&](std::size_t t) { swiglu_row(act.row(t), gate.row(t), up.row(t), act.cols); });
}

void swiglu_backward(MatrixView dgate, MatrixView dup, ConstMatrixView dact, ConstMatrixView gate,
                     ConstMatrixView up) {
  for_rows(dact.rows, [&](std::size_t t) {
    swiglu_backward_row(dgate.row(t), dup.row(t), dact.row(t), gate.row(t), up.row(t), dact.cols);
  });
}

void gelu_forward(MatrixView act, ConstMatrixView up) {
  for_rows(act.rows, [&](std::size_t t) { gelu_row(act.row(t), up.row(t), act.cols); });
}

void gelu_backward(MatrixView dup, ConstMatrixView dact, ConstMatrixView up) {
  for_rows(dact.rows, [&](std::size_t t) {
    gelu_backward_row(dup.row(t), dact.row(t), up.row(t), dact.cols);
  });
}

void add_bias(MatrixView x, const float* bias) {
  for_rows(x.rows, [&](std::size_t t) { add_row(x.row(t), bias, x.cols); });
}

void bias_backward(float* db, ConstMatrixView dy) {
  for (std::size_t t = 0; t < dy.rows; ++t) add_row(db, dy.row(t), dy.cols);
}

void add_rows(MatrixView y, ConstMatrixView x) {
  for_rows(y.rows, [&](std::size_t t) { add_row(y.row(t), x.row(t), y.cols); });
}

}  // namespace strata::model

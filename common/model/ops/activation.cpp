#include "model/ops/activation.h"

#include "base/simd.h"
#include "model/ops/fast_math.h"

namespace strata::model {

using tensor::ConstMatrixView;
using tensor::MatrixView;
using tensor::TypedRows;

namespace {

constexpr float kGeluScale = 0.7978845608f;  // sqrt(2 / pi)
constexpr float kGeluCubic = 0.044715f;

STRATA_SIMD void swiglu_row(float* a, const float* g, const float* u, std::size_t n) {
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i) a[i] = g[i] * sigmoid_fast(g[i]) * u[i];
}

STRATA_SIMD void swiglu_backward_row(float* a, float* dg, float* du, const float* d, const float* g,
                                     const float* u, std::size_t n) {
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i) {
    const float s = sigmoid_fast(g[i]);
    const float silu = g[i] * s;
    const float up = u[i];
    const float da = d[i];
    a[i] = silu * up;
    dg[i] = da * up * (s + silu * (1.0f - s));
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

STRATA_SIMD void gelu_backward_row(float* a, float* du, const float* d, const float* u,
                                   std::size_t n) {
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i) {
    const float x = u[i];
    const float da = d[i];
    const float th = tanh_fast(kGeluScale * (x + kGeluCubic * x * x * x));
    const float inner = kGeluScale * (1.0f + 3.0f * kGeluCubic * x * x);
    a[i] = 0.5f * x * (1.0f + th);
    du[i] = da * (0.5f * (1.0f + th) + 0.5f * x * (1.0f - th * th) * inner);
  }
}

STRATA_SIMD void gelu_erf_row(float* a, const float* u, std::size_t n) {
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i) a[i] = u[i] * normal_cdf_fast(u[i]);
}

STRATA_SIMD void gelu_erf_backward_row(float* a, float* du, const float* d, const float* u,
                                       std::size_t n) {
  constexpr float kDensity = 0.3989422804f;  // 1 / sqrt(2 pi)
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i) {
    const float x = u[i];
    const float below = normal_cdf_fast(x);
    const float da = d[i];
    a[i] = x * below;
    du[i] = da * (below + x * kDensity * exp_fast(-0.5f * x * x));
  }
}

STRATA_SIMD void add_row(float* y, const float* x, std::size_t n) {
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i) y[i] += x[i];
}

}  // namespace

void swiglu_forward(TypedRows act, ConstMatrixView gate, ConstMatrixView up, float* scratch) {
  for (std::size_t t = 0; t < act.rows; ++t) {
    float* a = act.open(t, scratch);
    swiglu_row(a, gate.row(t), up.row(t), act.cols);
    act.close(t, a);
  }
}

void swiglu_again(TypedRows act, TypedRows gate, TypedRows up, float* scratch) {
  const std::size_t n = act.cols;
  for (std::size_t t = 0; t < act.rows; ++t) {
    float* a = act.open(t, scratch);
    swiglu_row(a, gate.read(t, scratch + n), up.read(t, scratch + 2 * n), n);
    act.close(t, a);
  }
}

void swiglu_backward(TypedRows act, TypedRows dgate, TypedRows dup, ConstMatrixView dact,
                     TypedRows gate, TypedRows up, float* scratch) {
  const std::size_t n = act.cols;
  for (std::size_t t = 0; t < act.rows; ++t) {
    float* a = act.open(t, scratch);
    float* dg = dgate.open(t, scratch + n);
    float* du = dup.open(t, scratch + 2 * n);
    swiglu_backward_row(a, dg, du, dact.row(t), gate.read(t, scratch + 3 * n),
                        up.read(t, scratch + 4 * n), n);
    act.close(t, a);
    dgate.close(t, dg);
    dup.close(t, du);
  }
}

void gelu_forward(Gelu form, TypedRows act, ConstMatrixView up, float* scratch) {
  for (std::size_t t = 0; t < act.rows; ++t) {
    float* a = act.open(t, scratch);
    (form == Gelu::kErf ? gelu_erf_row : gelu_row)(a, up.row(t), act.cols);
    act.close(t, a);
  }
}

void gelu_again(Gelu form, TypedRows act, TypedRows up, float* scratch) {
  for (std::size_t t = 0; t < act.rows; ++t) {
    float* a = act.open(t, scratch);
    (form == Gelu::kErf ? gelu_erf_row : gelu_row)(a, up.read(t, scratch + act.cols), act.cols);
    act.close(t, a);
  }
}

void gelu_backward(Gelu form, TypedRows act, TypedRows dup, ConstMatrixView dact, TypedRows up,
                   float* scratch) {
  const std::size_t n = act.cols;
  for (std::size_t t = 0; t < act.rows; ++t) {
    float* a = act.open(t, scratch);
    float* du = dup.open(t, scratch + n);
    (form == Gelu::kErf ? gelu_erf_backward_row : gelu_backward_row)(
        a, du, dact.row(t), up.read(t, scratch + 2 * n), n);
    act.close(t, a);
    dup.close(t, du);
  }
}

void add_bias(MatrixView x, const float* bias) {
  for (std::size_t t = 0; t < x.rows; ++t) add_row(x.row(t), bias, x.cols);
}

void bias_backward(float* db, ConstMatrixView dy) {
  for (std::size_t t = 0; t < dy.rows; ++t) add_row(db, dy.row(t), dy.cols);
}

}  // namespace strata::model

#include "model/ops/norm.h"

#include <cmath>

#include "base/simd.h"

namespace strata::model {

using tensor::ConstMatrixView;
using tensor::MatrixView;
using tensor::TypedRows;

namespace {

STRATA_SIMD float sum_of_squares(const float* x, std::size_t n, float centre) {
  float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (std::size_t i = 0; i < n; ++i) sum += (x[i] - centre) * (x[i] - centre);
  return sum;
}

STRATA_SIMD float sum_of(const float* x, std::size_t n) {
  float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (std::size_t i = 0; i < n; ++i) sum += x[i];
  return sum;
}

// dx = residual + rstd * (g - mean(g) [LayerNorm] - xhat * mean(g * xhat)),
//   g = dy * gain, xhat = (x - m) * rstd
STRATA_SIMD void backward_row(float* dx, const float* residual, const float* dy, const float* x,
                              const float* gain, float m, float rstd, bool centred, std::size_t n) {
  float dot = 0.0f;
  float sum = 0.0f;
#pragma omp simd reduction(+ : dot, sum)
  for (std::size_t i = 0; i < n; ++i) {
    const float g = dy[i] * gain[i];
    dot += g * (x[i] - m);
    sum += g;
  }
  const float width = static_cast<float>(n);
  const float along = dot * rstd * rstd / width;
  const float shift = centred ? sum / width : 0.0f;
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i)
    dx[i] = residual[i] + rstd * (dy[i] * gain[i] - shift - (x[i] - m) * along);
}

STRATA_SIMD void apply_row(float* out, const float* in, const float* gain, const float* bias,
                           float mean, float rstd, std::size_t n) {
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i) out[i] = (in[i] - mean) * rstd * gain[i];
  if (bias == nullptr) return;
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i) out[i] += bias[i];
}

STRATA_SIMD void weights_row(float* dgain, float* dbias, const float* dy, const float* x,
                             float mean, float rstd, std::size_t n) {
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i) dgain[i] += dy[i] * (x[i] - mean) * rstd;
  if (dbias == nullptr) return;
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i) dbias[i] += dy[i];
}

float mean_of_row(NormStats stats, const NormWeights& weights, std::size_t t) {
  return weights.centred ? stats.mean[t] : 0.0f;
}

void apply(TypedRows y, NormStats stats, ConstMatrixView x, const NormWeights& weights,
           std::size_t t, float* scratch) {
  float* out = y.open(t, scratch);
  apply_row(out, x.row(t), weights.gain.data(),
            weights.bias.empty() ? nullptr : weights.bias.data(), mean_of_row(stats, weights, t),
            stats.rstd[t], x.cols);
  y.close(t, out);
}

}  // namespace

void norm_forward(TypedRows y, NormStats stats, ConstMatrixView x, const NormWeights& weights,
                  float* scratch) {
  const float width = static_cast<float>(x.cols);
  for (std::size_t t = 0; t < x.rows; ++t) {
    if (weights.centred) stats.mean[t] = sum_of(x.row(t), x.cols) / width;
    const float squares = sum_of_squares(x.row(t), x.cols, mean_of_row(stats, weights, t));
    stats.rstd[t] = 1.0f / std::sqrt(squares / width + weights.eps);
    apply(y, stats, x, weights, t, scratch);
  }
}

void norm_apply(TypedRows y, NormStats stats, ConstMatrixView x, const NormWeights& weights,
                float* scratch) {
  for (std::size_t t = 0; t < x.rows; ++t) apply(y, stats, x, weights, t, scratch);
}

void norm_backward(MatrixView dx, ConstMatrixView residual, ConstMatrixView dy, ConstMatrixView x,
                   NormStats stats, const NormWeights& weights) {
  for (std::size_t t = 0; t < x.rows; ++t) {
    backward_row(dx.row(t), residual.row(t), dy.row(t), x.row(t), weights.gain.data(),
                 mean_of_row(stats, weights, t), stats.rstd[t], weights.centred, x.cols);
  }
}

void norm_weights_backward(std::span<float> dgain, std::span<float> dbias, ConstMatrixView dy,
                           ConstMatrixView x, NormStats stats, const NormWeights& weights) {
  for (std::size_t t = 0; t < x.rows; ++t) {
    weights_row(dgain.data(), dbias.empty() ? nullptr : dbias.data(), dy.row(t), x.row(t),
                mean_of_row(stats, weights, t), stats.rstd[t], x.cols);
  }
}

}  // namespace strata::model

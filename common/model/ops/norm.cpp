#include "model/ops/norm.h"

#include <cmath>

#include "base/simd.h"
#include "tensor/parallel.h"

namespace strata::model {

using tensor::ConstMatrixView;
using tensor::MatrixView;

namespace {

constexpr std::size_t kRowsPerTask = 16;

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

// dx += rstd * (g - mean(g) [LayerNorm] - xhat * mean(g * xhat)),  g = dy * gain, xhat = (x - m) *
// rstd
STRATA_SIMD void backward_row(float* dx, const float* dy, const float* x, const float* gain,
                              float m, float rstd, bool centred, std::size_t n) {
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
    dx[i] += rstd * (dy[i] * gain[i] - shift - (x[i] - m) * along);
}

STRATA_SIMD void apply_row(float* out, const float* in, const float* gain, const float* bias,
                           float mean, float rstd, std::size_t n) {
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i) out[i] = (in[i] - mean) * rstd * gain[i];
  if (bias == nullptr) return;
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i) out[i] += bias[i];
}

STRATA_SIMD void gain_row(float* dgain, float* dbias, const float* dy, const float* x, float mean,
                          float rstd, std::size_t n) {
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i) dgain[i] += dy[i] * (x[i] - mean) * rstd;
  if (dbias == nullptr) return;
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i) dbias[i] += dy[i];
}

}  // namespace

void rms_norm_stats(NormStats stats, ConstMatrixView x, float eps) {
  tensor::parallel_for(x.rows, kRowsPerTask, [&](std::size_t first, std::size_t last) {
    for (std::size_t t = first; t < last; ++t) {
      stats.rstd[t] =
          1.0f /
          std::sqrt(sum_of_squares(x.row(t), x.cols, 0.0f) / static_cast<float>(x.cols) + eps);
    }
  });
}

void layer_norm_stats(NormStats stats, ConstMatrixView x, float eps) {
  tensor::parallel_for(x.rows, kRowsPerTask, [&](std::size_t first, std::size_t last) {
    for (std::size_t t = first; t < last; ++t) {
      const float width = static_cast<float>(x.cols);
      const float mean = sum_of(x.row(t), x.cols) / width;
      stats.mean[t] = mean;
      stats.rstd[t] = 1.0f / std::sqrt(sum_of_squares(x.row(t), x.cols, mean) / width + eps);
    }
  });
}

void norm_apply(MatrixView y, ConstMatrixView x, NormStats stats, std::span<const float> gain,
                std::span<const float> bias) {
  tensor::parallel_for(x.rows, kRowsPerTask, [&](std::size_t first, std::size_t last) {
    for (std::size_t t = first; t < last; ++t) {
      apply_row(y.row(t), x.row(t), gain.data(), bias.empty() ? nullptr : bias.data(),
                stats.mean.empty() ? 0.0f : stats.mean[t], stats.rstd[t], x.cols);
    }
  });
}

void norm_backward(MatrixView dx, std::span<float> dgain, std::span<float> dbias,
                   ConstMatrixView dy, ConstMatrixView x, NormStats stats,
                   std::span<const float> gain) {
  const bool centred = !stats.mean.empty();
  tensor::parallel_for(x.rows, kRowsPerTask, [&](std::size_t first, std::size_t last) {
    for (std::size_t t = first; t < last; ++t) {
      backward_row(dx.row(t), dy.row(t), x.row(t), gain.data(), centred ? stats.mean[t] : 0.0f,
                   stats.rstd[t], centred, x.cols);
    }
  });
  if (dgain.empty()) return;
  // Split over columns, so that each sum over tokens runs in one fixed order.
  tensor::parallel_for(x.cols, 64, [&](std::size_t first, std::size_t last) {
    for (std::size_t t = 0; t < x.rows; ++t) {
      gain_row(dgain.data() + first, dbias.empty() ? nullptr : dbias.data() + first,
               dy.row(t) + first, x.row(t) + first, centred ? stats.mean[t] : 0.0f, stats.rstd[t],
               last - first);
    }
  });
}

}  // namespace strata::model

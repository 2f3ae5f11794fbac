#pragma once
// Normalisation of rows, on the calling thread. T tokens, D width.
//   RMSNorm    y[t] = x[t] * rstd[t] * gain,   rstd[t] = 1 / sqrt(mean_d x[t,d]^2 + eps)
//                                                               Zhang & Sennrich 2019, eq. 4
//   LayerNorm  y[t] = (x[t] - mean[t]) * rstd[t] * gain + bias, rstd from the variance
//                                                               Ba et al. 2016
// Departs: eps inside the root, as in Llama and GPT-2.
#include <cstddef>
#include <span>

#include "tensor/matrix.h"
#include "tensor/typed_rows.h"

namespace strata::model {

/// The learned part and the kind: LayerNorm when `centred`. An empty `bias` means none.
struct NormWeights {
  std::span<const float> gain;
  std::span<const float> bias;
  float eps = 1e-5f;
  bool centred = false;
};

/// The statistics kept for the backward pass, one per row. `mean` is unused (may be empty) by
/// RMSNorm.
struct NormStats {
  std::span<float> rstd;
  std::span<float> mean;
};

/// y (T x D, overwritten) from x, whose statistics are computed and kept. `scratch`: D floats.
void norm_forward(tensor::TypedRows y, NormStats stats, tensor::ConstMatrixView x,
                  const NormWeights& weights, float* scratch);

/// y again from x and its kept statistics.
void norm_apply(tensor::TypedRows y, NormStats stats, tensor::ConstMatrixView x,
                const NormWeights& weights, float* scratch);

/// dx (T x D, overwritten) = residual + gradient through the norm. dx may be the memory of
/// `residual`, not of x or dy.
void norm_backward(tensor::MatrixView dx, tensor::ConstMatrixView residual,
                   tensor::ConstMatrixView dy, tensor::ConstMatrixView x, NormStats stats,
                   const NormWeights& weights);

/// dgain and dbias (may be empty) accumulate over the rows in order: the parameters are shared.
void norm_weights_backward(std::span<float> dgain, std::span<float> dbias,
                           tensor::ConstMatrixView dy, tensor::ConstMatrixView x, NormStats stats,
                           const NormWeights& weights);

}  // namespace strata::model

#pragma once
// Normalisation of rows. T tokens, D width.
//   RMSNorm    y[t] = x[t] * rstd[t] * gain,               rstd[t] = 1 / sqrt(mean_d x[t,d]^2 +
//   eps)   Zhang & Sennrich 2019, eq. 4 LayerNorm  y[t] = (x[t] - mean[t]) * rstd[t] * gain + bias,
//   rstd from the variance                 Ba et al. 2016
// Departs: eps inside the root, as in Llama and GPT-2.
#include <cstddef>
#include <span>

#include "tensor/matrix.h"

namespace strata::model {

/// The statistics kept for the backward pass, one per row. `mean` is unused (may be empty) by
/// RMSNorm.
struct NormStats {
  std::span<float> rstd;
  std::span<float> mean;
};

/// Computes the statistics of x: T x D.
void rms_norm_stats(NormStats stats, tensor::ConstMatrixView x, float eps);
void layer_norm_stats(NormStats stats, tensor::ConstMatrixView x, float eps);

/// y (T x D, overwritten) from x and its statistics. An empty `mean` means RMSNorm; an empty `bias`
/// means none.
void norm_apply(tensor::MatrixView y, tensor::ConstMatrixView x, NormStats stats,
                std::span<const float> gain, std::span<const float> bias);

/// dx (T x D) += gradient through the norm. dgain and dbias, when not empty, accumulate: the
/// parameters are shared by rows. x and dx must not overlap; dy may be anything.
void norm_backward(tensor::MatrixView dx, std::span<float> dgain, std::span<float> dbias,
                   tensor::ConstMatrixView dy, tensor::ConstMatrixView x, NormStats stats,
                   std::span<const float> gain);

}  // namespace strata::model

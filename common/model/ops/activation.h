#pragma once
// The MLP's element-wise halves. T tokens, F inner width; all T x F.
//   SwiGLU  act = silu(gate) * up,  silu(z) = z sigmoid(z) Shazeer 2020 GELU    act = up/2 (1 +
//   tanh(sqrt(2/pi) (up + 0.044715 up^3)))                                     Hendrycks & Gimpel
//   2016
#include "tensor/matrix.h"

namespace strata::model {

void swiglu_forward(tensor::MatrixView act, tensor::ConstMatrixView gate,
                    tensor::ConstMatrixView up);
/// dgate and dup overwritten; either may be the memory of dact.
void swiglu_backward(tensor::MatrixView dgate, tensor::MatrixView dup, tensor::ConstMatrixView dact,
                     tensor::ConstMatrixView gate, tensor::ConstMatrixView up);

void gelu_forward(tensor::MatrixView act, tensor::ConstMatrixView up);
/// dup overwritten; may be the memory of dact.
void gelu_backward(tensor::MatrixView dup, tensor::ConstMatrixView dact,
                   tensor::ConstMatrixView up);

/// x[t] += bias for every row; db += column sums of dy.
void add_bias(tensor::MatrixView x, const float* bias);
void bias_backward(float* db, tensor::ConstMatrixView dy);
/// y += x.
void add_rows(tensor::MatrixView y, tensor::ConstMatrixView x);

}  // namespace strata::model

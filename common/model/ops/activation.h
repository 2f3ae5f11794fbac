#pragma once
// The MLP's element-wise halves, on the calling thread. T tokens, F inner width; all T x F.
//   SwiGLU  act = silu(gate) * up,  silu(z) = z sigmoid(z)                        Shazeer 2020
//   GELU    act = up/2 (1 + tanh(sqrt(2/pi) (up + 0.044715 up^3)))
//                                                               Hendrycks & Gimpel 2016
//   exact:  act = up Phi(up), Phi the normal distribution's
// `scratch`: kActivationScratch rows of F floats.
#include "tensor/matrix.h"
#include "tensor/typed_rows.h"

namespace strata::model {

inline constexpr std::size_t kActivationScratch = 5;

void swiglu_forward(tensor::TypedRows act, tensor::ConstMatrixView gate, tensor::ConstMatrixView up,
                    float* scratch);
/// act (again), dgate and dup from dact: all overwritten.
void swiglu_backward(tensor::TypedRows act, tensor::TypedRows dgate, tensor::TypedRows dup,
                     tensor::ConstMatrixView dact, tensor::TypedRows gate, tensor::TypedRows up,
                     float* scratch);
/// act alone, again.
void swiglu_again(tensor::TypedRows act, tensor::TypedRows gate, tensor::TypedRows up,
                  float* scratch);

enum class Gelu { kTanh, kErf };

void gelu_forward(Gelu form, tensor::TypedRows act, tensor::ConstMatrixView up, float* scratch);
/// act (again) and dup from dact: both overwritten.
void gelu_backward(Gelu form, tensor::TypedRows act, tensor::TypedRows dup,
                   tensor::ConstMatrixView dact, tensor::TypedRows up, float* scratch);
void gelu_again(Gelu form, tensor::TypedRows act, tensor::TypedRows up, float* scratch);

/// x[t] += bias for every row; db += column sums of dy.
void add_bias(tensor::MatrixView x, const float* bias);
void bias_backward(float* db, tensor::ConstMatrixView dy);

}  // namespace strata::model

#include "model/ops/cross_entropy.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/simd.h"
#include "model/ops/fast_math.h"

namespace strata::model {
namespace {

STRATA_SIMD float max_of(const float* z, std::size_t n) {
  float top = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : top)
  for (std::size_t i = 0; i < n; ++i) top = std::max(top, z[i]);
  return top;
}

// Sums of e^(z - top) in float parts of 1024, added in double: a vocabulary of 10^5 keeps its
// digits.
STRATA_SIMD double sum_of_exp(const float* z, std::size_t n, float top) {
  double total = 0.0;
  for (std::size_t first = 0; first < n; first += 1024) {
    const std::size_t last = std::min(n, first + 1024);
    float part = 0.0f;
#pragma omp simd reduction(+ : part)
    for (std::size_t i = first; i < last; ++i) part += exp_fast(z[i] - top);
    total += part;
  }
  return total;
}

// The same sum; z becomes the powers.
STRATA_SIMD double exp_in_place(float* z, std::size_t n, float top) {
  double total = 0.0;
  for (std::size_t first = 0; first < n; first += 1024) {
    const std::size_t last = std::min(n, first + 1024);
    float part = 0.0f;
#pragma omp simd reduction(+ : part)
    for (std::size_t i = first; i < last; ++i) {
      z[i] = exp_fast(z[i] - top);
      part += z[i];
    }
    total += part;
  }
  return total;
}

STRATA_SIMD void scale(float* z, std::size_t n, float factor) {
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i) z[i] *= factor;
}

}  // namespace

void cross_entropy(std::span<float> loss, tensor::MatrixView logits,
                   std::span<const std::int32_t> targets, std::span<const float> weights,
                   std::span<std::uint8_t> correct) {
  for (std::size_t n = 0; n < logits.rows; ++n) {
    float* z = logits.row(n);
    const auto target = static_cast<std::size_t>(targets[n]);
    const float top = max_of(z, logits.cols);
    const float at_target = z[target];
    const double sum =
        weights.empty() ? sum_of_exp(z, logits.cols, top) : exp_in_place(z, logits.cols, top);
    loss[n] = static_cast<float>(static_cast<double>(top) + std::log(sum) -
                                 static_cast<double>(at_target));
    if (!correct.empty()) correct[n] = at_target >= top ? 1 : 0;
    if (weights.empty()) continue;
    scale(z, logits.cols, weights[n] / static_cast<float>(sum));
    z[target] -= weights[n];
  }
}

}  // namespace strata::model

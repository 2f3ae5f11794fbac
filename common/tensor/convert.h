#pragma once
// Bulk conversions between element types.
#include <cstddef>

#include "tensor/dtype.h"

namespace strata::tensor {

/// out[i] = bf16(in[i]), nearest even. Ranges must not overlap.
void to_bf16(BFloat16* out, const float* in, std::size_t n);
/// out[i] = float(in[i]).
void to_float(float* out, const BFloat16* in, std::size_t n);
void to_float(float* out, const Float16* in, std::size_t n);

}  // namespace strata::tensor

#include "tensor/convert.h"

#include "base/simd.h"

namespace strata::tensor {

// Plain loops over integers; the clones let the compiler use what the CPU has.
STRATA_SIMD static void round_words(std::uint16_t* out, const std::uint32_t* in, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t word = in[i];
    const std::uint32_t rounded = (word + 0x7fffu + ((word >> 16) & 1u)) >> 16;
    const std::uint32_t quiet = (word >> 16) | 0x40u;
    out[i] = static_cast<std::uint16_t>((word & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
  }
}

STRATA_SIMD static void widen_words(std::uint32_t* out, const std::uint16_t* in, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<std::uint32_t>(in[i]) << 16;
}

static_assert(sizeof(BFloat16) == sizeof(std::uint16_t) && sizeof(float) == sizeof(std::uint32_t));

void to_bf16(BFloat16* out, const float* in, std::size_t n) {
  round_words(reinterpret_cast<std::uint16_t*>(out), reinterpret_cast<const std::uint32_t*>(in), n);
}

void to_float(float* out, const BFloat16* in, std::size_t n) {
  widen_words(reinterpret_cast<std::uint32_t*>(out), reinterpret_cast<const std::uint16_t*>(in), n);
}

void to_float(float* out, const Float16* in, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) out[i] = in[i].to_float();
}

}  // namespace strata::tensor

#include "adapter/product_kernel.h"

#include <array>
#include <cstring>

namespace strata::adapter {
namespace {

constexpr std::size_t kRows = ProductKernel::kRows;

template <std::size_t Bytes>
struct Vector {
  using Type [[gnu::vector_size(Bytes)]] = double;
};

// Two vectors of columns by kRows rows: eight sums in registers, enough to hide the latency of an
// addition. Vectors go through memcpy: loads and stores of any alignment. Inlined into each kernel
// below, so compiled for each instruction set.
template <std::size_t Bytes>
[[gnu::always_inline]] inline void product_tile(double* acc, const double* b, const double* a,
                                                std::size_t rank) {
  using Lanes = typename Vector<Bytes>::Type;
  constexpr std::size_t kWide = Bytes / sizeof(double);
  Lanes sums[kRows][2];
  std::memcpy(&sums, acc, sizeof sums);
  for (std::size_t j = 0; j < rank; ++j) {
    Lanes left, right;
    std::memcpy(&left, a + j * 2 * kWide, sizeof left);
    std::memcpy(&right, a + j * 2 * kWide + kWide, sizeof right);
#pragma GCC unroll 4
    for (std::size_t r = 0; r < kRows; ++r) {
      const double factor = b[j * kRows + r];
      sums[r][0] += left * factor;
      sums[r][1] += right * factor;
    }
  }
  std::memcpy(acc, &sums, sizeof sums);
}

void run_128(double* acc, const double* b, const double* a, std::size_t rank) {
  product_tile<16>(acc, b, a, rank);
}

#if defined(__x86_64__)
[[gnu::target("avx2")]] void run_256(double* acc, const double* b, const double* a,
                                     std::size_t rank) {
  product_tile<32>(acc, b, a, rank);
}
[[gnu::target("avx512f")]] void run_512(double* acc, const double* b, const double* a,
                                        std::size_t rank) {
  product_tile<64>(acc, b, a, rank);
}

constexpr std::array kKernels{ProductKernel{"128 bit", 4, run_128},
                              ProductKernel{"256 bit", 8, run_256},
                              ProductKernel{"512 bit", 16, run_512}};

std::size_t supported() {
  if (__builtin_cpu_supports("avx512f") != 0) return 3;
  return __builtin_cpu_supports("avx2") != 0 ? 2 : 1;
}
#else
constexpr std::array kKernels{ProductKernel{"128 bit", 4, run_128}};

std::size_t supported() { return 1; }
#endif

}  // namespace

std::span<const ProductKernel> product_kernels() { return std::span(kKernels).first(supported()); }

}  // namespace strata::adapter

#include "adapter/product_kernel.h"

#include <array>
#include <cstring>

namespace strata::adapter {
namespace {

template <std::size_t Bytes>
struct Vector {
  using Type [[gnu::vector_size(Bytes)]] = double;
  using Half [[gnu::vector_size(Bytes / 2)]] = float;
};

// Where a tile's sums begin and end: doubles side by side, or floats that lie in rows.
template <class Lanes>
struct Sums {
  static constexpr std::size_t kWide = sizeof(Lanes) / sizeof(double);
  double* values;
  std::size_t stride;
  [[gnu::always_inline]] void load(std::size_t r, std::size_t v, Lanes& to) const {
    std::memcpy(&to, values + r * stride + v * kWide, sizeof to);
  }
  [[gnu::always_inline]] void store(std::size_t r, std::size_t v, const Lanes& sum) const {
    std::memcpy(values + r * stride + v * kWide, &sum, sizeof sum);
  }
};

template <class Lanes, class Half>
struct Weights {
  static constexpr std::size_t kWide = sizeof(Half) / sizeof(float);
  float* values;
  std::size_t stride;
  [[gnu::always_inline]] void load(std::size_t r, std::size_t v, Lanes& to) const {
    Half stored;
    std::memcpy(&stored, values + r * stride + v * kWide, sizeof stored);
    to = __builtin_convertvector(stored, Lanes);
  }
  [[gnu::always_inline]] void store(std::size_t r, std::size_t v, const Lanes& sum) const {
    const Half rounded = __builtin_convertvector(sum, Half);
    std::memcpy(values + r * stride + v * kWide, &rounded, sizeof rounded);
  }
};

// A tile's sums stay in registers: as many as hide the latency of a step, and so many columns a row
// and rows a column that steps wait for arithmetic, not for loads. Vectors go through memcpy: loads
// and stores of any alignment. Inlined into each kernel below, so compiled for each instruction
// set.
template <class Lanes, std::size_t Rows, std::size_t Vectors, class Place>
[[gnu::always_inline]] inline void product_tile(const Place& place, const double* b,
                                                const double* a, std::size_t rank) {
  constexpr std::size_t kWide = sizeof(Lanes) / sizeof(double);
  Lanes sums[Rows * Vectors];
#pragma GCC unroll 24
  for (std::size_t i = 0; i < Rows * Vectors; ++i) place.load(i / Vectors, i % Vectors, sums[i]);
  for (std::size_t j = 0; j < rank; ++j) {
    Lanes columns[Vectors];
#pragma GCC unroll 4
    for (std::size_t v = 0; v < Vectors; ++v)
      std::memcpy(&columns[v], a + (j * Vectors + v) * kWide, sizeof(Lanes));
#pragma GCC unroll 8
    for (std::size_t r = 0; r < Rows; ++r) {
      const double factor = b[j * Rows + r];
#pragma GCC unroll 4
      for (std::size_t v = 0; v < Vectors; ++v) sums[r * Vectors + v] += columns[v] * factor;
    }
  }
#pragma GCC unroll 24
  for (std::size_t i = 0; i < Rows * Vectors; ++i) place.store(i / Vectors, i % Vectors, sums[i]);
}

template <std::size_t Bytes, std::size_t Rows, std::size_t Vectors>
struct Tile {
  using Lanes = typename Vector<Bytes>::Type;
  using Half = typename Vector<Bytes>::Half;
  // NOLINTNEXTLINE(readability-non-const-parameter): the tile stores its sums through it
  [[gnu::always_inline]] static void run(double* acc, const double* b, const double* a,
                                         std::size_t rank) {
    product_tile<Lanes, Rows, Vectors>(Sums<Lanes>{acc, Vectors * Sums<Lanes>::kWide}, b, a, rank);
  }
  // NOLINTNEXTLINE(readability-non-const-parameter): the tile stores its sums through it
  [[gnu::always_inline]] static void fold(float* w, std::size_t stride, const double* b,
                                          const double* a, std::size_t rank) {
    product_tile<Lanes, Rows, Vectors>(Weights<Lanes, Half>{w, stride}, b, a, rank);
  }
};

void run_128(double* acc, const double* b, const double* a, std::size_t rank) {
  Tile<16, 4, 2>::run(acc, b, a, rank);
}
void fold_128(float* w, std::size_t stride, const double* b, const double* a, std::size_t rank) {
  Tile<16, 4, 2>::fold(w, stride, b, a, rank);
}
constexpr ProductKernel kPortable{"128 bit", 4, 4, run_128, fold_128};

#if defined(__x86_64__)
[[gnu::target("avx2,fma")]] void run_256(double* acc, const double* b, const double* a,
                                         std::size_t rank) {
  Tile<32, 4, 3>::run(acc, b, a, rank);
}
[[gnu::target("avx2,fma")]] void fold_256(float* w, std::size_t stride, const double* b,
                                          const double* a, std::size_t rank) {
  Tile<32, 4, 3>::fold(w, stride, b, a, rank);
}
[[gnu::target("avx512f,fma")]] void run_512(double* acc, const double* b, const double* a,
                                            std::size_t rank) {
  Tile<64, 8, 3>::run(acc, b, a, rank);
}
[[gnu::target("avx512f,fma")]] void fold_512(float* w, std::size_t stride, const double* b,
                                             const double* a, std::size_t rank) {
  Tile<64, 8, 3>::fold(w, stride, b, a, rank);
}

constexpr std::array kKernels{kPortable, ProductKernel{"256 bit", 4, 12, run_256, fold_256},
                              ProductKernel{"512 bit", 8, 24, run_512, fold_512}};

std::size_t supported() {
  if (__builtin_cpu_supports("fma") == 0 || __builtin_cpu_supports("avx2") == 0) return 1;
  return __builtin_cpu_supports("avx512f") != 0 ? 3 : 2;
}
#else
constexpr std::array kKernels{kPortable};

std::size_t supported() { return 1; }
#endif

}  // namespace

std::span<const ProductKernel> product_kernels() { return std::span(kKernels).first(supported()); }

}  // namespace strata::adapter

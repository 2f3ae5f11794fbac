#pragma once
// The inner loop of the packet's product, one per instruction set, all with the same bits:
//   acc[r][c] += sum_j b[j][r] a[j][c],   double, j from 0 up, one multiply and one add per step
// Vectors run over the columns c, never over j, so the order of every sum is that of the scalar
// loop; and the product of two floats is exact in double, so a fused multiply-add, where there is
// one, rounds as the two instructions do. Threads: none, values only.
#include <cstddef>
#include <span>
#include <string_view>

namespace strata::adapter {

struct ProductKernel {
  static constexpr std::size_t kMaxTile = 192;  // values of a tile

  std::string_view name;
  std::size_t rows;  // of a tile
  std::size_t cols;
  /// acc: rows x cols, b: rank x rows, a: rank x cols, all row-major doubles that hold float values
  /// (acc: any).
  void (*run)(double* acc, const double* b, const double* a, std::size_t rank);
  /// The same from and to a tile of float weights, rounded once: w[r * stride + c].
  void (*fold)(float* w, std::size_t stride, const double* b, const double* a, std::size_t rank);
};

/// Those this CPU can run, the fastest last; never empty.
[[nodiscard]] std::span<const ProductKernel> product_kernels();

}  // namespace strata::adapter

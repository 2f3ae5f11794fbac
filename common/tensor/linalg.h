#pragma once
// Small dense algebra of factored matrices, in double (Eigen behind it): B A is never formed unless
// a function says so.
//   thin QR and SVD with fixed signs;  recompression by two QRs;  inner products by traces of small
//   matrices;  blocks of rows
// Sums have a fixed order and use one thread: equal inputs give equal bits on one machine. Across
// machines they agree to rounding, so whoever runs a recompression sends its result, not its
// inputs.
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include "tensor/matrix.h"

namespace strata::tensor {

/// rows x cols doubles, row-major.
struct Doubles {
  std::size_t rows = 0;
  std::size_t cols = 0;
  std::vector<double> values;

  Doubles() = default;
  Doubles(std::size_t r, std::size_t c) : rows(r), cols(c), values(r * c, 0.0) {}
  [[nodiscard]] double& operator()(std::size_t i, std::size_t j) { return values[i * cols + j]; }
  [[nodiscard]] double operator()(std::size_t i, std::size_t j) const {
    return values[i * cols + j];
  }
  /// Rounded to float.
  [[nodiscard]] Matrix narrow() const;
};

/// A borrowed product weight * B A: B is m x r, A is r x n.
struct FactorView {
  ConstMatrixView b;
  ConstMatrixView a;
  double weight = 1.0;
};

/// m = Q R with k = min(rows, cols): Q rows x k with orthonormal columns, R k x cols upper
/// triangular with a diagonal >= 0.
struct ThinQr {
  Doubles q;
  Doubles r;
};
[[nodiscard]] ThinQr thin_qr(const Doubles& m);

/// m = U diag(s) V^T, s descending, k = min(rows, cols). Sign: the entry of largest size in each
/// column of U (the first of equals) is positive.
struct Svd {
  Doubles u;              // rows x k
  std::vector<double> s;  // k
  Doubles v;              // cols x k
};
[[nodiscard]] Svd svd(const Doubles& m);

/// The singular values of m alone, descending.
[[nodiscard]] std::vector<double> singular_values(const Doubles& m);

/// What recompression may lose: the smallest rank q whose lost part is at most max(absolute,
/// relative * norm), then at most max_rank. With the defaults only directions below the noise of
/// float factors go:  sigma_i <= max(m, n) 2^-24 sigma_1.
struct RecompressRule {
  double relative_error = 0.0;
  double absolute_error = 0.0;
  std::size_t max_rank = std::numeric_limits<std::size_t>::max();
  double unit_roundoff = 0x1p-24;  // of the type the factors were rounded to
};

/// B' A' of rank q nearest to B A in Frobenius norm; B' = U sqrt(S), A' = sqrt(S) V^T with the
/// signs of svd(): every pair with the same product gives the same result, to rounding.
struct Recompressed {
  Doubles b;                            // m x q
  Doubles a;                            // q x n
  std::vector<double> singular_values;  // of B A: all min(m, n, r) of them
  double error =
      0.0;  // ||B A - B' A'||_F = sqrt(sum_{i > q} sigma_i^2), before any rounding of b and a
  double norm = 0.0;  // ||B A||_F
  [[nodiscard]] std::size_t rank() const { return a.rows; }
};

/// Cost 4 (m + n) r^2 + ~24 r^3; a side no longer than r is used as it is. A zero product has rank
/// 0.
[[nodiscard]] Recompressed recompress(const FactorView& product, const RecompressRule& rule = {});

/// <X, Y> = tr(X^T Y) = tr((B_x^T B_y)(A_y A_x^T)), weights included. Both are m x n. Relative to
/// ||X|| ||Y|| it is good to ~1e-15, so norms of small differences must not be taken from it.
[[nodiscard]] double inner_product(const FactorView& x, const FactorView& y);

/// inner_product of each pair: K x K, symmetric.
[[nodiscard]] Doubles gram(std::span<const FactorView> products);

/// ||sum of the products||_F by gram().
[[nodiscard]] double frobenius_norm(std::span<const FactorView> products);

/// out (count x n, row-major) += rows [first, first + count) of the product.
void add_product_rows(std::span<double> out, const FactorView& product, std::size_t first,
                      std::size_t count);

}  // namespace strata::tensor

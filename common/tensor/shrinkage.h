#pragma once
// Takes noise of known size out of a factored matrix by shrinking its singular values.
//   X = B A = L + N      m x n;  the rows of N are independent, each N(0, F^T F),  F: k x n
// Whiten, shrink, and colour again (Leeb and Romanov 2021, IEEE Trans. Inf. Theory 67(5)):
//   F = U S V^T, rank R      Y = X V S^-1, m x R: its noise is independent of variance 1
//   Y = sum_i y_i u_i v_i^T     X' = sum_i sqrt(N) t_i u_i v_i^T S V^T,   N = max(m, R)
// Where S is even (s I), t_i = eta(y_i / sqrt(N)) is the shrinker that is best in Frobenius norm
// for low-rank signals in large matrices (Gavish and Donoho 2017, IEEE Trans. Inf. Theory 63(4)),
// beta = min(m, R) / N:
//   eta(y) = sqrt((y^2 - beta - 1)^2 - 4 beta) / y   for y > 1 + sqrt(beta),   else 0
// Elsewhere what v_i has wrong, spread over all of the frame, is coloured with the rest, and
//   t_i = eta (||S v_i||^2 - (1 - c^2) tr(S^2) / R) / (c^2 ||S v_i||^2),   at least 0
// is best for ||X' - L||_F once R is large; c is the cosine between v_i and the signal's own
// direction, which follows from y_i. One thread, double, sums in a fixed order.
#include "tensor/linalg.h"

namespace strata::tensor {

/// What a singular value of a matrix with a low-rank signal says about it. All 0 up to the edge.
struct Seen {
  double eta = 0.0;           // the best value for it
  double cosine_short = 0.0;  // squared, between its vectors and the signal's: shorter side,
  double cosine_long = 0.0;   // longer side
};
/// y >= 0: the value over noise times the root of the longer side; beta in (0, 1].
[[nodiscard]] Seen seen_by(double y, double beta);

/// The F of a sum of independent noises, made up piece by piece. At most 2 n rows are kept: an R
/// factor of F has the same F^T F.
class RowNoise {
 public:
  explicit RowNoise(std::size_t columns) : rows_(0, columns) {}
  /// X has had `deviation` * G A added, G: m x r of independent N(0, 1), A: r x n.
  void add(double deviation, ConstMatrixView a);
  [[nodiscard]] const Doubles& rows() const { return rows_; }
  /// E ||N||_F^2 / m = ||F||_F^2.
  [[nodiscard]] double row_energy() const;

 private:
  Doubles rows_;
};

struct Shrunk {
  Doubles b;                   // m x q
  Doubles a;                   // q x n
  std::size_t frame = 0;       // R
  std::vector<double> before;  // y_i, descending: min(m, R) of them
  std::vector<double> after;   // sqrt(N) t_i of the q that are left
  double norm = 0.0;           // ||X||_F
  double outside = 0.0;        // ||X - X V V^T||_F, where there is no noise: dropped
  [[nodiscard]] std::size_t rank() const { return after.size(); }
};

/// X' = b a. Directions of F below n 2^-24 of its largest have no noise to speak of (floats are
/// rounded there) and count as outside. Cost: singular values of a k x n and of an m x R matrix.
[[nodiscard]] Shrunk shrink(const FactorView& product, const RowNoise& noise);

}  // namespace strata::tensor

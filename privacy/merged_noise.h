#pragma once
// How much noise a private run leaves in the merged change of a layer, expected before any record
// is read.
//   dW = sum_k p_k s_k B_k A_k       B_k: d_out x r_k,  A_k: r_k x d_in,  clients k
// B starts at 0, A with values U(-1/sqrt(d_in), 1/sqrt(d_in)), so E ||A||_F^2 = r / 3, and every
// value of a factor has independent noise of variance b_k, or a_k where A is trained, too:
//   E ||noise||_F^2 = sum_k (p_k s_k)^2 ( d_out b_k r_k / 3  +  d_out r_k d_in a_k b_k )
//                                         linear                product of both noises
// Where the factors are averaged first (fedavg) the second sum is
//   s^2 d_out r d_in (sum_k p_k^2 a_k)(sum_k p_k^2 b_k)
// and, where every client begins with an A of its own, the mean of which is shorter, the first one
//   s^2 d_out r / 3 (sum_k p_k^2)(sum_k p_k^2 b_k)
// Not in it is what depends on the records: noise on the part of A and B that training makes.
#include <cstddef>
#include <span>

namespace strata::privacy {

/// One client's adapter on one layer.
struct NoisyFactors {
  double weight = 1.0;  // p_k
  double scale = 1.0;   // s_k
  std::size_t rank = 1;
  double a = 0.0;  // variance of a value of A; 0 where it is not trained
  double b = 0.0;
  bool own_a = true;  // drawn by the client itself; false: the same for all
};

/// Squares of Frobenius norms.
struct MergedNoise {
  double linear = 0.0;
  double product = 0.0;
  [[nodiscard]] double norm() const;
  MergedNoise& operator+=(const MergedNoise& other);
};

enum class Merge { kProducts, kFactors };  // stacked, or factors averaged first (of one rank)

[[nodiscard]] MergedNoise merged_noise(std::size_t d_out, std::size_t d_in,
                                       std::span<const NoisyFactors> clients, Merge merge);

}  // namespace strata::privacy

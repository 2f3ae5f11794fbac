#pragma once
// Factors A that no update carries: every party draws them itself from the run's seed. One tall
// sequence of rows for each round and tensor, of which a factor of rank r is the first r:
//   A[j, i] ~ U(-1/sqrt(d_in), 1/sqrt(d_in)),  addressed by (seed, round, tensor, j d_in + i)
// Equal on every machine: one draw a value, exact in double but for a product and the rounding to
// float. Values; any thread.
#include <cstdint>
#include <string_view>

#include "sys/random.h"
#include "tensor/matrix.h"

namespace strata::adapter {

/// The draws that all parties of a run have in common.
[[nodiscard]] sys::Stream shared_stream(std::uint64_t seed);
/// Of them, those of factors that every client begins with and trains on.
[[nodiscard]] sys::Stream common_start_stream(std::uint64_t seed);

class SeededFactors {
 public:
  SeededFactors() : SeededFactors(sys::Stream(0), 0) {}
  /// Of the round (from 1) of a run whose shared_stream() is `shared`.
  SeededFactors(const sys::Stream& shared, std::uint32_t round) : shared_(shared), round_(round) {}

  [[nodiscard]] std::uint32_t round() const { return round_; }
  /// Names seed, round and tensor ("<module>.weight"): the LowRank::id_a of its factors. Not 0.
  [[nodiscard]] std::uint64_t id(std::string_view tensor) const;
  /// rank x d_in.
  [[nodiscard]] tensor::Matrix a(std::string_view tensor, std::size_t rank, std::size_t d_in) const;

 private:
  sys::Stream shared_;
  std::uint32_t round_;
};

}  // namespace strata::adapter

#pragma once
// Decisions that are true with exactly the probability asked for: uniform bits compared with
// rational numbers in integers, with as many bits as it takes. A uniform number u of [0, 1) is read
// a word at a time; all but one of 2^64 words decide, and that one leaves the same question about
// the rest of u.
#include <array>
#include <cstdint>

#include "privacy/noise/noise_source.h"

namespace strata::noise {

// An extension of the compiler; the standard has no such type.
__extension__ using Wide = unsigned __int128;

/// True with probability n / d; 0 <= n <= d, 0 < d <= 2^63.
[[nodiscard]] inline bool bernoulli(std::uint64_t n, std::uint64_t d, NoiseSource& source) {
  while (true) {
    // u d lies in [a, a + d) / 2^64, where a = word d; the question is whether it is below n.
    const Wide a = static_cast<Wide>(source.next()) * d;
    const auto high = static_cast<std::uint64_t>(a >> 64);
    if (high >= n) return false;
    if (high + 1 < n) return true;
    const std::uint64_t left = -static_cast<std::uint64_t>(a);  // n 2^64 - a; 0 stands for 2^64
    if (left == 0 || left >= d) return true;
    n = left;
  }
}

/// True with probability exp(-n / d); 0 <= n <= d, 0 < d <= 2^53. The parity of a run of decisions
/// n/d, n/2d, n/3d, ... (Forsythe 1972; Canonne, Kamath & Steinke 2020, algorithm 1).
[[nodiscard]] inline bool bernoulli_exp(std::uint64_t n, std::uint64_t d, NoiseSource& source) {
  bool odd = true;
  // The divisor stays below 2^63 for runs of 2^10, whose probability is below 2^-8000.
  for (std::uint64_t divisor = d; bernoulli(n, divisor, source); divisor += d) odd = !odd;
  return odd;
}

/// True with probability exp(-1): the same run for n = d, whose first k decisions are all true when
/// u < 1/k!. So one word decides nearly always.
[[nodiscard]] inline bool bernoulli_exp_one(NoiseSource& source) {
  constexpr std::uint64_t kLast = 8;
  struct Bound {
    std::uint64_t factorial;
    std::uint64_t word;  // floor(2^64 / factorial)
  };
  constexpr auto kBounds = [] {
    std::array<Bound, kLast + 1> out{};
    std::uint64_t factorial = 2;
    for (std::uint64_t k = 3; k <= kLast; ++k) {
      factorial *= k;
      out[k] = {factorial, static_cast<std::uint64_t>((Wide{1} << 64) / factorial)};
    }
    return out;
  }();
  const std::uint64_t word = source.next();
  if (word >> 63 != 0) return false;  // u >= 1/2!
  for (std::uint64_t k = 3; k <= kLast; ++k) {
    const auto [factorial, bound] = kBounds[k];
    const bool below =
        word < bound || (word == bound && bernoulli(-(bound * factorial), factorial, source));
    if (!below) return (k & 1) != 0;
  }
  // u < 1/8!, and nothing else about it has been used: the run goes on with new words.
  std::uint64_t k = kLast + 1;
  while (bernoulli(1, k, source)) ++k;
  return (k & 1) != 0;
}

}  // namespace strata::noise

#pragma once
// Seeded randomness for training (never for privacy noise). A draw has an address, not a moment:
// the same address gives the same bits whatever was drawn before, on whatever thread. Philox4x32-10
// (Salmon et al. 2011, Random123), whose key is the seed and purpose and whose counter is the
// position.
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace strata::sys {

/// Where in a run a draw belongs. Unused parts stay 0.
struct Address {
  std::uint64_t client = 0;  // hash of the client's name, or 0 for the coordinator
  std::uint32_t round = 0;
  std::uint32_t step = 0;
  std::string_view purpose;  // "shuffle", "init", "dropout", ...
  std::uint64_t item = 0;    // tensor, layer, record ...
};

/// A copyable, random-access sequence of draws. Not thread-safe as one object; copies are
/// independent.
class Stream {
 public:
  explicit Stream(std::uint64_t seed) : key_(seed) {}
  /// The stream of `address` below this one.
  [[nodiscard]] Stream at(const Address& address) const;
  /// Draw number `index`, independent of the running position. For masks that are made again in the
  /// backward pass.
  [[nodiscard]] std::uint32_t word(std::uint64_t index) const;

  [[nodiscard]] std::uint32_t next();
  [[nodiscard]] double uniform();  // [0, 1), 53 bits
  [[nodiscard]] double uniform(double low, double high);
  [[nodiscard]] double normal();                       // N(0, 1), Box-Muller
  [[nodiscard]] double gamma(double shape);            // Marsaglia & Tsang 2000
  [[nodiscard]] std::uint64_t below(std::uint64_t n);  // uniform in [0, n), n > 0, unbiased
  /// A uniformly random order of 0..n-1 (Fisher-Yates).
  [[nodiscard]] std::vector<std::size_t> permutation(std::size_t n);

 private:
  [[nodiscard]] std::array<std::uint32_t, 4> block(std::uint64_t index) const;

  std::uint64_t key_;
  std::uint64_t position_ = 0;
  std::array<std::uint32_t, 4> words_{};  // the block that position_ is in, unless it begins there
};

/// 64-bit FNV-1a: names to addresses.
[[nodiscard]] std::uint64_t name_hash(std::string_view name);

}  // namespace strata::sys

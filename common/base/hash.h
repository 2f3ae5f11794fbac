#pragma once
// SHA-256 (OpenSSL): hashes of packets, model states and files.
#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace strata {

using Sha256 = std::array<std::byte, 32>;

/// Lower-case hexadecimal, 64 characters.
[[nodiscard]] std::string hex(const Sha256& hash);
/// The hash that hex() writes as `text`; absent for anything else.
[[nodiscard]] std::optional<Sha256> unhex(std::string_view text);

/// A running hash. Not thread-safe; movable. finish() ends it.
class Hasher {
 public:
  Hasher();
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;
  ~Hasher();
  void add(std::span<const std::byte> bytes);
  void add(std::string_view text);
  [[nodiscard]] Sha256 finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

[[nodiscard]] Sha256 sha256(std::span<const std::byte> bytes);

}  // namespace strata

#pragma once
// Numbers and texts as bytes and back, little-endian, for messages and records. Reading never
// trusts a length: what is not there is an absent value, and nothing is allocated before its bytes
// are known to be there. Values; no thread rules.
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace strata {

static_assert(std::endian::native == std::endian::little, "numbers are written as they lie");

using Bytes = std::vector<std::byte>;
using ByteSpan = std::span<const std::byte>;

[[nodiscard]] inline ByteSpan bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}
[[nodiscard]] inline std::string_view text_of(ByteSpan bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Appends to a buffer of its own.
class ByteWriter {
 public:
  template <class Number>
  requires std::is_arithmetic_v<Number>
  void number(Number value) { raw(std::as_bytes(std::span(&value, 1))); }
  void raw(ByteSpan bytes) { out_.insert(out_.end(), bytes.begin(), bytes.end()); }
  /// u32 length, then the bytes.
  void block(ByteSpan bytes) {
    number(static_cast<std::uint32_t>(bytes.size()));
    raw(bytes);
  }
  void text(std::string_view value) { block(bytes_of(value)); }
  void reserve(std::size_t bytes) { out_.reserve(bytes); }
  [[nodiscard]] std::size_t size() const { return out_.size(); }
  [[nodiscard]] Bytes take() && { return std::move(out_); }

 private:
  Bytes out_;
};

/// Takes from the front of bytes it borrows.
class ByteReader {
 public:
  explicit ByteReader(ByteSpan bytes) : rest_(bytes) {}

  template <class Number>
  requires std::is_arithmetic_v<Number>
  [[nodiscard]] std::optional<Number> number() {
    Number value;
    if (rest_.size() < sizeof value) return std::nullopt;
    std::memcpy(&value, rest_.data(), sizeof value);
    rest_ = rest_.subspan(sizeof value);
    return value;
  }
  [[nodiscard]] std::optional<ByteSpan> raw(std::size_t length) {
    if (rest_.size() < length) return std::nullopt;
    const ByteSpan out = rest_.first(length);
    rest_ = rest_.subspan(length);
    return out;
  }
  [[nodiscard]] std::optional<ByteSpan> block() {
    const auto length = number<std::uint32_t>();
    return length ? raw(*length) : std::nullopt;
  }
  [[nodiscard]] std::optional<std::string> text() {
    const auto bytes = block();
    return bytes ? std::optional<std::string>(text_of(*bytes)) : std::nullopt;
  }
  [[nodiscard]] std::size_t left() const { return rest_.size(); }

 private:
  ByteSpan rest_;
};

}  // namespace strata

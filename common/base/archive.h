#pragma once
// Fields of messages and records, written and read by one description: a function that visits them
// in order. Reading checks that the bytes are there and in range; the first problem is kept and
// ends it.
//   template <class A, class M> void fields(A& a, M& m) { a(m.round), a(m.chain); }
#include <algorithm>
#include <array>
#include <string>
#include <type_traits>
#include <vector>

#include "base/bytes.h"

namespace strata {

inline constexpr std::size_t kFieldTextMax = 512u << 10;

class FieldWriter {
 public:
  explicit FieldWriter(ByteWriter& out) : out_(out) {}
  template <class T>
  void operator()(const T& value) {
    if constexpr (std::is_enum_v<T>) {
      out_.number(static_cast<std::uint8_t>(value));
    } else if constexpr (std::is_same_v<T, bool>) {
      out_.number(static_cast<std::uint8_t>(value ? 1 : 0));
    } else {
      out_.number(value);
    }
  }
  void operator()(const std::string& value) { out_.text(value); }
  void operator()(const Bytes& value) { out_.block(value); }
  void operator()(const ByteSpan& value) { out_.block(value); }
  template <std::size_t n>
  void operator()(const std::array<std::byte, n>& value) {
    out_.raw(value);
  }
  template <class T, class Each>
  void list(const std::vector<T>& values, std::size_t, const Each& each) {
    out_.number(static_cast<std::uint32_t>(values.size()));
    for (const auto& value : values) each(value);
  }
  void limit(bool, const char*) {}

 private:
  ByteWriter& out_;
};

class FieldReader {
 public:
  explicit FieldReader(ByteReader& in) : in_(in) {}
  template <class T>
  void operator()(T& value) {
    if constexpr (std::is_enum_v<T> || std::is_same_v<T, bool>) {
      std::uint8_t raw = 0;
      (*this)(raw);
      limit(!std::is_same_v<T, bool> || raw <= 1, "a yes or no that is neither");
      value = static_cast<T>(raw);
    } else {
      take(in_.number<T>(), value);
    }
  }
  void operator()(std::string& value) {
    const auto bytes = in_.block();
    limit(bytes.has_value(), "a text that ends early");
    if (problem_ != nullptr) return;
    limit(bytes->size() <= kFieldTextMax, "a text that is too long");
    value.assign(text_of(*bytes));
  }
  void operator()(Bytes& value) {
    const auto bytes = in_.block();
    limit(bytes.has_value(), "data that ends early");
    if (problem_ == nullptr) value.assign(bytes->begin(), bytes->end());
  }
  /// Borrowed from what is read.
  void operator()(ByteSpan& value) {
    const auto bytes = in_.block();
    limit(bytes.has_value(), "data that ends early");
    if (problem_ == nullptr) value = *bytes;
  }
  template <std::size_t n>
  void operator()(std::array<std::byte, n>& value) {
    const auto bytes = in_.raw(n);
    limit(bytes.has_value(), "a hash that ends early");
    if (problem_ == nullptr) std::copy(bytes->begin(), bytes->end(), value.begin());
  }
  template <class T, class Each>
  void list(std::vector<T>& values, std::size_t max, const Each& each) {
    std::uint32_t count = 0;
    (*this)(count);
    limit(count <= max, "a list that is too long");
    for (std::uint32_t i = 0; i < count && problem_ == nullptr; ++i) each(values.emplace_back());
  }
  void limit(bool holds, const char* what) {
    if (!holds && problem_ == nullptr) problem_ = what;
  }
  /// What is wrong, or null.
  [[nodiscard]] const char* problem() const { return problem_; }

 private:
  template <class T>
  void take(const std::optional<T>& found, T& value) {
    limit(found.has_value(), "a number that ends early");
    if (found) value = *found;
  }
  ByteReader& in_;
  const char* problem_ = nullptr;
};

}  // namespace strata

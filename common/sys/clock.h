#pragma once
// Time as an interface: no other code asks the machine what time it is.
#include <chrono>
#include <memory>
#include <string>

namespace strata::sys {

class Clock {
 public:
  virtual ~Clock() = default;
  /// Monotonic seconds since an arbitrary start; for durations.
  [[nodiscard]] virtual double seconds() const = 0;
  /// Wall time as UTC, "2026-01-31T12:34:56Z"; for records read by people.
  [[nodiscard]] virtual std::string utc() const = 0;
};

[[nodiscard]] std::unique_ptr<Clock> make_posix_clock();

/// Peak resident memory of this process in bytes.
[[nodiscard]] std::size_t peak_memory_bytes();

}  // namespace strata::sys

#pragma once
// A clock that shows what the test sets.
#include <string>

#include "sys/clock.h"

namespace strata::observe {

class SetClock final : public sys::Clock {
 public:
  double now = 0.0;
  [[nodiscard]] double seconds() const override { return now; }
  [[nodiscard]] std::string utc() const override { return "2026-01-31T12:34:56Z"; }
};

}  // namespace strata::observe

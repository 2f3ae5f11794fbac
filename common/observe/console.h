#pragma once
// Progress for people on one stream: bars redrawn in place on a terminal, plain lines elsewhere
// (one per round and evaluation, steps at most every 30 s), or nothing.
#include <iosfwd>
#include <memory>

#include "observe/observer.h"
#include "sys/clock.h"

namespace strata::observe {

enum class ConsoleStyle { kBars, kLines, kSilent };

/// `out` and `clock` are borrowed.
[[nodiscard]] std::unique_ptr<Observer> make_console(ConsoleStyle style, std::ostream& out,
                                                     const sys::Clock& clock);

}  // namespace strata::observe

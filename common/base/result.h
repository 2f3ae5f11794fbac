#pragma once
// Result<T>: a value or an Error. Functions that can fail for reasons outside the program return
// it; exceptions stay inside the wrappers of libraries that throw. std::expected replaces the alias
// once the compiler has it.
#include <string>
#include <tl/expected.hpp>
#include <utility>

#include "base/error.h"

namespace strata {

template <class T>
using Result = tl::expected<T, Error>;

/// Ends a function with a new error:  return fail({.code = ErrorCode::kData, .what = "...", .where
/// = path});
[[nodiscard]] inline tl::unexpected<Error> fail(Error error) {
  return tl::unexpected<Error>(std::move(error));
}

/// Passes an error on, adding what was being done:  if (!w) return fail(std::move(w).error(),
/// "loading the base model");
[[nodiscard]] inline tl::unexpected<Error> fail(Error error, std::string doing) {
  error.doing.push_back(std::move(doing));
  return tl::unexpected<Error>(std::move(error));
}

/// An assertion about our own code, kept in release builds: ends the process with `what`. Never for
/// input.
[[noreturn]] void broken_invariant(const char* what, const char* file, int line);
inline void check(bool holds, const char* what, const char* file = __builtin_FILE(),
                  int line = __builtin_LINE()) {
  if (!holds) broken_invariant(what, file, line);
}

}  // namespace strata

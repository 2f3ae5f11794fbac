#pragma once
// What this binary is.
#include <string>
#include <string_view>

namespace strata::cli {

inline constexpr std::string_view kVersion = "0.1.0";

/// The instruction set the matrix products use here: part of what decides a run's bits.
[[nodiscard]] std::string instruction_set();

}  // namespace strata::cli

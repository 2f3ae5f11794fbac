#pragma once
// How deeply a JSON text is nested, before anything is built from it: the parser keeps its place on
// the heap, but copying, printing and freeing what it made recurse.
#include <cstddef>
#include <string_view>

namespace strata {

inline constexpr std::size_t kJsonDepthMax = 100;  // files of models are nested a tenth of that

/// The most brackets open at once, strings skipped. Any text has a depth, also one that is no JSON.
[[nodiscard]] std::size_t json_depth(std::string_view text);

}  // namespace strata

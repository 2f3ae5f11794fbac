#pragma once
// Pixels of one image: a value.
#include <cstddef>
#include <cstdint>
#include <vector>

namespace strata::vision {

/// `values`: rows from the top, each pixel's channels side by side (1: grey; 3: red, green, blue).
struct Image {
  std::size_t width = 0;
  std::size_t height = 0;
  std::size_t channels = 1;
  std::vector<std::uint8_t> values;
};

}  // namespace strata::vision

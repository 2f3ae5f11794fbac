#pragma once
// An image as a model takes it: of its size, cut into patches.
#include <cstdint>
#include <vector>

#include "model/decoder_config.h"
#include "vision/image.h"

namespace strata::vision {

/// `image` with other sides, each value the mean of those near it weighted by a triangle, as wide
/// as the step between them when it shrinks (the bilinear filter of image libraries). The image
/// itself when it has these sides.
[[nodiscard]] Image resized(Image image, std::size_t width, std::size_t height);

/// Patches from left to right and from the top; of each, channel after channel, its rows. Grey
/// values serve for all three colours; colours become grey by ITU-R BT.601.
[[nodiscard]] std::vector<std::uint8_t> patches(const Image& image, const model::PatchGrid& grid);

}  // namespace strata::vision

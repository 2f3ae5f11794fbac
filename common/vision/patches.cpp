#include "vision/patches.h"

#include <algorithm>
#include <cmath>

namespace strata::vision {
namespace {

// The values of the old line that a value of the new one is a mean of.
struct Tap {
  std::size_t first = 0;
  std::vector<double> weights;
};

std::vector<Tap> taps(std::size_t from, std::size_t to) {
  const double step = static_cast<double>(from) / static_cast<double>(to);
  const double reach = std::max(1.0, step);
  std::vector<Tap> out(to);
  for (std::size_t i = 0; i < to; ++i) {
    const double centre = (static_cast<double>(i) + 0.5) * step;
    const auto first = static_cast<std::size_t>(std::max(0.0, std::floor(centre - reach + 0.5)));
    const auto last = std::min(from, static_cast<std::size_t>(std::floor(centre + reach + 0.5)));
    out[i].first = first;
    double sum = 0.0;
    for (std::size_t j = first; j < last; ++j) {
      const double away = std::abs(static_cast<double>(j) + 0.5 - centre) / reach;
      out[i].weights.push_back(std::max(0.0, 1.0 - away));
      sum += out[i].weights.back();
    }
    for (double& weight : out[i].weights) weight /= sum;
  }
  return out;
}

std::uint8_t rounded(double value) {
  return static_cast<std::uint8_t>(std::clamp(std::lround(value), 0L, 255L));
}

}  // namespace

// Line by line, so that no more than a line is held beside both images.
Image resized(Image image, std::size_t width, std::size_t height) {
  if (image.width == width && image.height == height) return image;
  const auto across = taps(image.width, width);
  const auto down = taps(image.height, height);
  const std::size_t c = image.channels;
  Image out{width, height, c, std::vector<std::uint8_t>(width * height * c)};
  std::vector<double> line(image.width * c);  // of the new height, the old width
  for (std::size_t y = 0; y < height; ++y) {
    std::fill(line.begin(), line.end(), 0.0);
    for (std::size_t i = 0; i < down[y].weights.size(); ++i) {
      const std::uint8_t* in = image.values.data() + (down[y].first + i) * line.size();
      for (std::size_t x = 0; x < line.size(); ++x) line[x] += down[y].weights[i] * in[x];
    }
    for (std::size_t x = 0; x < width; ++x) {
      for (std::size_t k = 0; k < c; ++k) {
        double sum = 0.0;
        for (std::size_t i = 0; i < across[x].weights.size(); ++i)
          sum += across[x].weights[i] * line[(across[x].first + i) * c + k];
        out.values[(y * width + x) * c + k] = rounded(sum);
      }
    }
  }
  return out;
}

std::vector<std::uint8_t> patches(const Image& image, const model::PatchGrid& grid) {
  const std::size_t side = grid.image / grid.patch;
  std::vector<std::uint8_t> out;
  out.reserve(grid.count() * grid.width());
  const auto value = [&](std::size_t x, std::size_t y, std::size_t channel) {
    const std::uint8_t* pixel = image.values.data() + (y * image.width + x) * image.channels;
    if (image.channels == grid.channels) return pixel[channel];
    if (image.channels == 1) return pixel[0];
    // BT.601 in 16 bits, as Pillow has it; the weights' sum is 2^16.
    const unsigned sum = 19595U * pixel[0] + 38470U * pixel[1] + 7471U * pixel[2];
    return static_cast<std::uint8_t>((sum + 0x8000U) >> 16U);
  };
  for (std::size_t patch = 0; patch < side * side; ++patch) {
    const std::size_t left = patch % side * grid.patch, top = patch / side * grid.patch;
    for (std::size_t channel = 0; channel < grid.channels; ++channel) {
      for (std::size_t y = 0; y < grid.patch; ++y) {
        for (std::size_t x = 0; x < grid.patch; ++x)
          out.push_back(value(left + x, top + y, channel));
      }
    }
  }
  return out;
}

}  // namespace strata::vision

#pragma once
// Rotary positions (Su et al. 2021), half-split layout as Hugging Face stores it: pair (x[i], x[i +
// d/2]) turns by pos * theta^(-2i/d). Llama 3's scaling stretches the long wavelengths.
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "model/decoder_config.h"
#include "tensor/matrix.h"

namespace strata::model {

/// cos and sin for positions 0..n-1, grown on demand. One per training thread.
class RopeTable {
 public:
  explicit RopeTable(const DecoderConfig& config);
  void ensure(std::size_t positions);
  [[nodiscard]] std::span<const float> cosine(std::size_t position) const {
    return {cos_.data() + position * half_, half_};
  }
  [[nodiscard]] std::span<const float> sine(std::size_t position) const {
    return {sin_.data() + position * half_, half_};
  }

 private:
  std::size_t half_;
  std::vector<float> inverse_frequency_;
  std::vector<float> cos_, sin_;
};

/// Turns every head of x (T x heads*head_dim) in place; row t stands at positions[t]. `inverse`
/// turns back: the gradient.
void rope_apply(tensor::MatrixView x, std::size_t head_dim,
                std::span<const std::uint32_t> positions, const RopeTable& table, bool inverse);

}  // namespace strata::model

#include "adapter/seeded_factors.h"

#include <cmath>

namespace strata::adapter {

sys::Stream shared_stream(std::uint64_t seed) {
  return sys::Stream(seed).at({.purpose = "shared"});
}

sys::Stream common_start_stream(std::uint64_t seed) {
  return shared_stream(seed).at({.purpose = "common start"});
}

std::uint64_t SeededFactors::id(std::string_view tensor) const {
  sys::Stream draws =
      shared_.at({.round = round_, .purpose = "seeded_a id", .item = sys::name_hash(tensor)});
  const std::uint64_t high = draws.next();
  return (high << 32 | draws.next()) | 1u;
}

tensor::Matrix SeededFactors::a(std::string_view tensor, std::size_t rank, std::size_t d_in) const {
  const sys::Stream draws =
      shared_.at({.round = round_, .purpose = "seeded_a", .item = sys::name_hash(tensor)});
  const double bound = 1.0 / std::sqrt(static_cast<double>(d_in));
  tensor::Matrix out(rank, d_in);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const double unit = (static_cast<double>(draws.word(i)) + 0.5) * 0x1p-31 - 1.0;  // (-1, 1)
    out.data()[i] = static_cast<float>(bound * unit);
  }
  return out;
}

}  // namespace strata::adapter

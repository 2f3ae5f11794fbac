#include "tensor/dtype.h"

#include <array>
#include <utility>

namespace strata::tensor {
namespace {
constexpr std::array<std::pair<DType, std::string_view>, 10> kNames{{{DType::kF32, "F32"},
                                                                     {DType::kF16, "F16"},
                                                                     {DType::kBF16, "BF16"},
                                                                     {DType::kF64, "F64"},
                                                                     {DType::kI64, "I64"},
                                                                     {DType::kI32, "I32"},
                                                                     {DType::kI16, "I16"},
                                                                     {DType::kI8, "I8"},
                                                                     {DType::kU8, "U8"},
                                                                     {DType::kBool, "BOOL"}}};
}  // namespace

Float16 Float16::from(float value) {
  const auto word = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((word >> 16) & 0x8000u);
  const std::uint32_t magnitude = word & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<std::uint16_t>(sign | 0x7e00u)};  // NaN
  if (magnitude >= 0x477ff000u)
    return {static_cast<std::uint16_t>(sign | 0x7c00u)};  // rounds to infinity
  if (magnitude < 0x38800000u) {  // subnormal half: adding 0.5 lines the mantissa up and rounds it
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return {
        static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000u))};
  }
  const std::uint32_t odd = (magnitude >> 13) & 1u;
  return {static_cast<std::uint16_t>(sign | ((magnitude - 0x38000000u + 0xfffu + odd) >> 13))};
}

std::string_view safetensors_name(DType type) {
  for (const auto& [t, text] : kNames) {
    if (t == type) return text;
  }
  return "?";
}

std::optional<DType> from_safetensors_name(std::string_view name) {
  for (const auto& [t, text] : kNames) {
    if (text == name) return t;
  }
  return std::nullopt;
}

}  // namespace strata::tensor

// Conversions between float, bfloat16 and IEEE half: every 16-bit pattern, and rounding at the
// middle between each two neighbours.
#include "tensor/convert.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

namespace strata::tensor {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::uint32_t word(float value) { return std::bit_cast<std::uint32_t>(value); }

/// What the bits mean by the definition of a binary format with `exponent_bits` and
/// `mantissa_bits`.
double meaning(std::uint16_t bits, int exponent_bits, int mantissa_bits) {
  const int top = (1 << exponent_bits) - 1;
  const int bias = top / 2;
  const int exponent = (bits >> mantissa_bits) & top;
  const int mantissa = bits & ((1 << mantissa_bits) - 1);
  const double sign = (bits & 0x8000u) != 0 ? -1.0 : 1.0;
  if (exponent == top)
    return mantissa != 0 ? std::numeric_limits<double>::quiet_NaN()
                         : sign * std::numeric_limits<double>::infinity();
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
}

double meaning(BFloat16 x) { return meaning(x.bits, 8, 7); }
double meaning(Float16 x) { return meaning(x.bits, 5, 10); }

template <class T>
class HalfWidth : public testing::Test {
 protected:
  static T of(std::uint32_t bits) { return {static_cast<std::uint16_t>(bits)}; }
  /// Largest finite value's bits.
  static constexpr std::uint32_t kLargest = std::is_same_v<T, BFloat16> ? 0x7f7fu : 0x7bffu;
};
using Types = testing::Types<BFloat16, Float16>;
TYPED_TEST_SUITE(HalfWidth, Types);

TYPED_TEST(HalfWidth, EveryPatternWidensToWhatItMeans) {
  for (std::uint32_t bits = 0; bits <= 0xffffu; ++bits) {
    const TypeParam x = this->of(bits);
    const double expected = meaning(x);
    const float actual = x.to_float();
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(actual)) << bits;
    } else {
      ASSERT_EQ(static_cast<double>(actual), expected) << bits;
      ASSERT_EQ(std::signbit(actual), std::signbit(expected)) << bits;
    }
  }
}

TYPED_TEST(HalfWidth, EveryPatternComesBackFromFloatAndNaNStaysNaN) {
  for (std::uint32_t bits = 0; bits <= 0xffffu; ++bits) {
    const TypeParam x = this->of(bits);
    const TypeParam back = TypeParam::from(x.to_float());
    if (std::isnan(meaning(x))) {
      ASSERT_TRUE(std::isnan(meaning(back))) << bits;
      ASSERT_EQ(back.bits & 0x8000u, bits & 0x8000u);
    } else {
      ASSERT_EQ(back.bits, bits);
    }
  }
}

// The middle between neighbours has one bit more than they have, so float holds it exactly.
TYPED_TEST(HalfWidth, RoundsToTheNearestAndFromTheMiddleToTheEven) {
  for (const std::uint32_t sign : {0u, 0x8000u}) {
    for (std::uint32_t bits = 0; bits < this->kLargest; ++bits) {
      const TypeParam low = this->of(sign | bits), high = this->of(sign | (bits + 1));
      const auto middle = static_cast<float>((meaning(low) + meaning(high)) / 2.0);
      const TypeParam even = (bits & 1u) == 0 ? low : high;
      ASSERT_EQ(TypeParam::from(middle).bits, even.bits) << bits;
      ASSERT_EQ(TypeParam::from(std::nextafter(middle, low.to_float())).bits, low.bits) << bits;
      ASSERT_EQ(TypeParam::from(std::nextafter(middle, high.to_float())).bits, high.bits) << bits;
    }
  }
}

TYPED_TEST(HalfWidth, WhatRoundsBeyondTheLargestBecomesInfinity) {
  const TypeParam largest = this->of(this->kLargest), below = this->of(this->kLargest - 1);
  const auto edge =
      static_cast<float>(meaning(largest) + (meaning(largest) - meaning(below)) / 2.0);
  EXPECT_EQ(TypeParam::from(std::nextafter(edge, 0.0f)).bits, largest.bits);
  EXPECT_EQ(TypeParam::from(edge).to_float(), kInfinity);
  EXPECT_EQ(TypeParam::from(-edge).to_float(), -kInfinity);
  EXPECT_EQ(TypeParam::from(std::numeric_limits<float>::max()).to_float(), kInfinity);
  EXPECT_EQ(TypeParam::from(-kInfinity).to_float(), -kInfinity);
}

TYPED_TEST(HalfWidth, ANaNWhoseMarkLiesInTheLostBitsStaysNaN) {
  EXPECT_TRUE(std::isnan(TypeParam::from(std::bit_cast<float>(0x7f800001u)).to_float()));
  EXPECT_TRUE(std::isnan(TypeParam::from(std::bit_cast<float>(0xffffffffu)).to_float()));
}

std::vector<float> awkward_floats() {
  std::vector<float> out{0.0f,  -0.0f,    1.0f,      kInfinity, -kInfinity, kNan,
                         -kNan, 1.0e-45f, -1.0e-39f, 3.4e38f,   65519.9f,   65520.0f};
  std::mt19937 draw(1);
  for (int i = 0; i < 100000; ++i)
    out.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(draw())));
  return out;
}

TEST(Convert, BulkRoundingEqualsThatOfSingleValues) {
  const auto in = awkward_floats();
  std::vector<BFloat16> out(in.size());
  to_bf16(out.data(), in.data(), in.size());
  for (std::size_t i = 0; i < in.size(); ++i)
    ASSERT_EQ(out[i].bits, BFloat16::from(in[i]).bits) << std::hex << word(in[i]);
}

TEST(Convert, BulkWideningEqualsThatOfSingleValues) {
  std::vector<BFloat16> brains(1u << 16);
  std::vector<Float16> halves(1u << 16);
  for (std::uint32_t i = 0; i < 1u << 16; ++i) {
    brains[i].bits = static_cast<std::uint16_t>(i);
    halves[i].bits = static_cast<std::uint16_t>(i);
  }
  std::vector<float> out(1u << 16);
  to_float(out.data(), brains.data(), out.size());
  for (std::size_t i = 0; i < out.size(); ++i) ASSERT_EQ(word(out[i]), word(brains[i].to_float()));
  to_float(out.data(), halves.data(), out.size());
  for (std::size_t i = 0; i < out.size(); ++i) ASSERT_EQ(word(out[i]), word(halves[i].to_float()));
}

// Vector loops have a tail: every length, and nothing written beyond it.
TEST(Convert, EveryLengthIsConvertedWholeAndNothingBehindIt) {
  const auto in = awkward_floats();
  for (std::size_t n = 0; n <= 70; ++n) {
    std::vector<BFloat16> narrow(n + 1, BFloat16{0xabcd});
    to_bf16(narrow.data(), in.data() + n, n);
    for (std::size_t i = 0; i < n; ++i) ASSERT_EQ(narrow[i].bits, BFloat16::from(in[n + i]).bits);
    EXPECT_EQ(narrow[n].bits, 0xabcd);
    std::vector<float> wide(n + 1, 7.0f);
    to_float(wide.data(), narrow.data(), n);
    for (std::size_t i = 0; i < n; ++i) ASSERT_EQ(word(wide[i]), word(narrow[i].to_float()));
    EXPECT_EQ(wide[n], 7.0f);
  }
}

TEST(DTypeName, EveryTypeIsFoundUnderTheNameItIsStoredWith) {
  for (const DType type : {DType::kF32, DType::kF16, DType::kBF16, DType::kF64, DType::kI64,
                           DType::kI32, DType::kI16, DType::kI8, DType::kU8, DType::kBool})
    EXPECT_EQ(from_safetensors_name(safetensors_name(type)), type);
  EXPECT_EQ(safetensors_name(DType::kBF16), "BF16");
  EXPECT_EQ(safetensors_name(DType::kBool), "BOOL");
  EXPECT_FALSE(from_safetensors_name("bf16"));
  EXPECT_FALSE(from_safetensors_name("F8_E4M3"));
}

}  // namespace
}  // namespace strata::tensor

// ggml's block formats back to float. Each block is a half-precision scale (and minimum) over 32 or
// 256 small integers; the layouts are those of llama.cpp's ggml-common.h, the arithmetic that of
// the reference reader (one float operation at a time).
#include <cstring>

#include "formats/gguf.h"
#include "tensor/convert.h"
#include "tensor/dtype.h"

namespace strata::formats {
namespace {

using Bytes = const std::uint8_t*;

float half_at(Bytes p) {
  tensor::Float16 h;
  std::memcpy(&h.bits, p, 2);
  return h.to_float();
}

// 32 values: low nibbles first, then high ones.
void q4_0(Bytes p, float* out) {
  const float d = half_at(p);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>((p[2 + i] & 15) - 8);
    out[i + 16] = d * static_cast<float>((p[2 + i] >> 4) - 8);
  }
}

void q4_1(Bytes p, float* out) {
  const float d = half_at(p);
  const float m = half_at(p + 2);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>(p[4 + i] & 15) + m;
    out[i + 16] = d * static_cast<float>(p[4 + i] >> 4) + m;
  }
}

// The fifth bits of all 32 values stand in one little-endian word.
std::uint32_t word_at(Bytes p) {
  std::uint32_t w = 0;
  std::memcpy(&w, p, 4);
  return w;
}

void q5_0(Bytes p, float* out) {
  const float d = half_at(p);
  const std::uint32_t high = word_at(p + 2);
  for (int i = 0; i < 16; ++i) {
    const int low_value = (p[6 + i] & 15) | static_cast<int>(((high >> i) & 1u) << 4);
    const int high_value = (p[6 + i] >> 4) | static_cast<int>(((high >> (i + 16)) & 1u) << 4);
    out[i] = d * static_cast<float>(low_value - 16);
    out[i + 16] = d * static_cast<float>(high_value - 16);
  }
}

void q5_1(Bytes p, float* out) {
  const float d = half_at(p);
  const float m = half_at(p + 2);
  const std::uint32_t high = word_at(p + 4);
  for (int i = 0; i < 16; ++i) {
    const int low_value = (p[8 + i] & 15) | static_cast<int>(((high >> i) & 1u) << 4);
    const int high_value = (p[8 + i] >> 4) | static_cast<int>(((high >> (i + 16)) & 1u) << 4);
    out[i] = d * static_cast<float>(low_value) + m;
    out[i + 16] = d * static_cast<float>(high_value) + m;
  }
}

void q8_0(Bytes p, float* out) {
  const float d = half_at(p);
  for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(static_cast<std::int8_t>(p[2 + i]));
}

// Eight 6-bit scales and eight 6-bit minimums in 12 bytes.
struct ScaleMin {
  int scale;
  int min;
};
ScaleMin scale_min(int j, Bytes s) {
  if (j < 4) return {s[j] & 63, s[j + 4] & 63};
  return {(s[j + 4] & 15) | ((s[j - 4] >> 6) << 4), (s[j + 4] >> 4) | ((s[j] >> 6) << 4)};
}

void q4_k(Bytes p, float* out) {
  const float d = half_at(p);
  const float dmin = half_at(p + 2);
  for (int j = 0; j < 8; ++j) {
    const auto [scale, min] = scale_min(j, p + 4);
    const float ds = d * static_cast<float>(scale);
    const float dm = dmin * static_cast<float>(min);
    const Bytes quants = p + (16 + 32 * (j / 2));
    for (int i = 0; i < 32; ++i)
      out[32 * j + i] = ds * static_cast<float>(j % 2 == 0 ? quants[i] & 15 : quants[i] >> 4) - dm;
  }
}

void q5_k(Bytes p, float* out) {
  const float d = half_at(p);
  const float dmin = half_at(p + 2);
  const Bytes high = p + 16;
  for (int j = 0; j < 8; ++j) {
    const auto [scale, min] = scale_min(j, p + 4);
    const float ds = d * static_cast<float>(scale);
    const float dm = dmin * static_cast<float>(min);
    const Bytes quants = p + (48 + 32 * (j / 2));
    for (int i = 0; i < 32; ++i) {
      const int low = j % 2 == 0 ? quants[i] & 15 : quants[i] >> 4;
      out[32 * j + i] = ds * static_cast<float>(low | (((high[i] >> j) & 1) << 4)) - dm;
    }
  }
}

// 256 values in two halves of 128: four bits in ql, two in qh, one signed scale per 16 values.
void q6_k(Bytes p, float* out) {
  const float d = half_at(p + 208);
  for (std::ptrdiff_t half = 0; half < 2; ++half) {
    const Bytes low = p + 64 * half;
    const Bytes high = p + 128 + 32 * half;
    const Bytes scales = p + 192 + 8 * half;
    for (int quarter = 0; quarter < 4; ++quarter) {
      for (int i = 0; i < 32; ++i) {
        const int byte = low[i + 32 * (quarter % 2)];
        const int nibble = quarter < 2 ? byte & 15 : byte >> 4;
        const int value = (nibble | (((high[i] >> (2 * quarter)) & 3) << 4)) - 32;
        const float ds =
            d * static_cast<float>(static_cast<std::int8_t>(scales[2 * quarter + i / 16]));
        out[128 * half + (32 * quarter + i)] = ds * static_cast<float>(value);
      }
    }
  }
}

template <class Unpack>
void blocks(const GgufTensor& tensor, std::size_t values, std::size_t bytes,
            std::vector<float>& out, const Unpack& unpack) {
  const auto* p = reinterpret_cast<Bytes>(tensor.bytes.data());
  for (std::size_t i = 0; i * values < out.size(); ++i)
    unpack(p + i * bytes, out.data() + i * values);
}

}  // namespace

std::vector<float> dequantise(const GgufTensor& tensor) {
  std::vector<float> out(tensor.element_count());
  switch (tensor.type) {
    case GgufType::kF32:
      std::memcpy(out.data(), tensor.bytes.data(), tensor.bytes.size());
      break;
    case GgufType::kF16:
      blocks(tensor, 1, 2, out, [](Bytes p, float* o) { *o = half_at(p); });
      break;
    case GgufType::kBF16:
      blocks(tensor, 1, 2, out, [](Bytes p, float* o) {
        tensor::BFloat16 b;
        std::memcpy(&b.bits, p, 2);
        *o = b.to_float();
      });
      break;
    case GgufType::kQ4_0:
      blocks(tensor, 32, 18, out, q4_0);
      break;
    case GgufType::kQ4_1:
      blocks(tensor, 32, 20, out, q4_1);
      break;
    case GgufType::kQ5_0:
      blocks(tensor, 32, 22, out, q5_0);
      break;
    case GgufType::kQ5_1:
      blocks(tensor, 32, 24, out, q5_1);
      break;
    case GgufType::kQ8_0:
      blocks(tensor, 32, 34, out, q8_0);
      break;
    case GgufType::kQ4_K:
      blocks(tensor, 256, 144, out, q4_k);
      break;
    case GgufType::kQ5_K:
      blocks(tensor, 256, 176, out, q5_k);
      break;
    case GgufType::kQ6_K:
      blocks(tensor, 256, 210, out, q6_k);
      break;
  }
  return out;
}

}  // namespace strata::formats

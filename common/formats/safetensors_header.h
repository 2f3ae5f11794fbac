#pragma once
// The header of a safetensors file by itself: what the file holds and where, checked in full before
// a byte of data is touched. For readers of whole files, and of updates that arrive piece by piece.
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "tensor/dtype.h"

namespace strata::formats {

/// Largest header that the reference implementation reads.
inline constexpr std::uint64_t kHeaderBytesMax = 100u << 20;

struct TensorPlace {
  std::string name;
  tensor::DType dtype = tensor::DType::kF32;
  std::vector<std::size_t> shape;  // product fits in std::size_t
  std::size_t begin = 0;           // from the beginning of the data
  std::size_t end = 0;
};

struct SafetensorsHeader {
  std::map<std::string, std::string> metadata;
  std::vector<TensorPlace> tensors;  // as they lie: no hole, no overlap, nothing behind the last
  std::uint64_t data_begin = 0;      // from the beginning of the file

  /// Length of the header with its prefix, from the first eight bytes of a file of `file_bytes`.
  /// kFormat when the file cannot hold it or it is beyond `max`.
  [[nodiscard]] static Result<std::uint64_t> length(ByteSpan first_eight, std::uint64_t file_bytes,
                                                    const std::string& where,
                                                    std::uint64_t max = kHeaderBytesMax);
  /// From the first length() bytes of the file. kFormat naming tensor and rule; kUnsupported for an
  /// unknown type.
  [[nodiscard]] static Result<SafetensorsHeader> parse(ByteSpan bytes, std::uint64_t file_bytes,
                                                       const std::string& where);
};

}  // namespace strata::formats

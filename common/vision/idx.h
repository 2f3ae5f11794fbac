#pragma once
// IDX files, the format of MNIST and of what has followed it: bytes 0 0 8 (unsigned bytes) and the
// number of dimensions, their sizes as 32-bit big-endian numbers, the values. As they are, or
// compressed by gzip.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <vector>

#include "base/result.h"
#include "sys/disk.h"

namespace strata::vision {

struct IdxArray {
  std::vector<std::size_t> sizes;    // one to three dimensions
  std::vector<std::uint8_t> values;  // row-major
};

/// Whether the file begins as such a file does, compressed or not. False for what cannot be read.
[[nodiscard]] bool is_idx(const sys::Disk& disk, const std::filesystem::path& path);

/// kFileMissing, kIo; kData: another type of values, other numbers of dimensions, more or fewer
/// values than the sizes say, a broken compression, more than 4 GiB.
[[nodiscard]] Result<IdxArray> read_idx(const sys::Disk& disk, const std::filesystem::path& path);

}  // namespace strata::vision

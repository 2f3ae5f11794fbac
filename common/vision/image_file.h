#pragma once
// PNG and JPEG files, known by their first bytes.
#include <filesystem>

#include "base/result.h"
#include "sys/disk.h"
#include "vision/image.h"

namespace strata::vision {

inline constexpr std::size_t kPixelsMax = std::size_t{1} << 26;  // 8192 x 8192

/// In three channels, also what is grey; transparent pixels lie on black. kFileMissing, kIo; kData:
/// another format, a broken file, more than kPixelsMax pixels.
[[nodiscard]] Result<Image> read_image(const sys::Disk& disk, const std::filesystem::path& path);

}  // namespace strata::vision

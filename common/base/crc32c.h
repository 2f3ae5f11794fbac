#pragma once
// CRC-32C (Castagnoli; RFC 3720, appendix B.4): catches damage by disks, memory and our own
// mistakes. No protection from anybody who means harm: that is what hashes and TLS are for.
#include <cstdint>

#include "base/bytes.h"

namespace strata {

/// Of `bytes` behind those that gave `before`.
[[nodiscard]] std::uint32_t crc32c(ByteSpan bytes, std::uint32_t before = 0);
/// The same, slower, on every processor.
[[nodiscard]] std::uint32_t crc32c_portable(ByteSpan bytes, std::uint32_t before = 0);

}  // namespace strata

#include "base/crc32c.h"

#include <boost/crc.hpp>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace strata {
namespace {

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) std::uint32_t by_instruction(ByteSpan bytes,
                                                               std::uint32_t before) {
  std::uint64_t state = static_cast<std::uint32_t>(~before);
  while (bytes.size() >= sizeof(std::uint64_t)) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data(), sizeof word);
    state = _mm_crc32_u64(state, word);
    bytes = bytes.subspan(sizeof word);
  }
  auto rest = static_cast<std::uint32_t>(state);
  for (const std::byte b : bytes) rest = _mm_crc32_u8(rest, std::to_integer<std::uint8_t>(b));
  return ~rest;
}
#endif

}  // namespace

// Boost's is portable and about a twentieth as fast as the processor's own instruction.
std::uint32_t crc32c_portable(ByteSpan bytes, std::uint32_t before) {
  // Boost takes a register that is not reflected; ours is, as in the standard.
  constexpr auto kReflect = [](std::uint32_t v) {
    std::uint32_t out = 0;
    for (int i = 0; i < 32; ++i) out |= ((v >> i) & 1u) << (31 - i);
    return out;
  };
  boost::crc_optimal<32, 0x1EDC6F41, 0, 0xFFFFFFFF, true, true> crc(kReflect(~before));
  crc.process_bytes(bytes.data(), bytes.size());
  return crc.checksum();
}

std::uint32_t crc32c(ByteSpan bytes, std::uint32_t before) {
#if defined(__x86_64__)
  static const bool kHasInstruction = __builtin_cpu_supports("sse4.2") != 0;
  if (kHasInstruction) return by_instruction(bytes, before);
#endif
  return crc32c_portable(bytes, before);
}

}  // namespace strata

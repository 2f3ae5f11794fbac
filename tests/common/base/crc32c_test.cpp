// CRC-32C against the values of RFC 3720, appendix B.4.
#include "base/crc32c.h"

#include <gtest/gtest.h>

#include <numeric>

namespace strata {
namespace {

TEST(Crc32c, GivesTheStandardsValues) {
  EXPECT_EQ(crc32c(Bytes(32, std::byte{0})), 0x8A9136AAu);
  EXPECT_EQ(crc32c(Bytes(32, std::byte{0xff})), 0x62A8AB43u);
  Bytes ascending(32);
  for (std::size_t i = 0; i < 32; ++i) ascending[i] = std::byte(i);
  EXPECT_EQ(crc32c(ascending), 0x46DD794Eu);
  EXPECT_EQ(crc32c(bytes_of("123456789")), 0xE3069283u);
  EXPECT_EQ(crc32c({}), 0u);
}

TEST(Crc32c, GoesOnFromWhatWasBefore) {
  const auto all = bytes_of("one and two and three");
  for (std::size_t n = 0; n <= all.size(); ++n)
    EXPECT_EQ(crc32c(all.subspan(n), crc32c(all.first(n))), crc32c(all)) << n;
}

TEST(Crc32c, IsTheSameWithoutTheInstruction) {
  const auto all = bytes_of("some bytes, not a multiple of eight");
  for (std::size_t n = 0; n <= all.size(); ++n) {
    EXPECT_EQ(crc32c_portable(all.first(n)), crc32c(all.first(n))) << n;
    EXPECT_EQ(crc32c_portable(all.subspan(n), crc32c(all.first(n))), crc32c(all)) << n;
  }
}

}  // namespace
}  // namespace strata

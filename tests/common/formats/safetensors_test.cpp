#include "formats/safetensors.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <limits>

#include "formats/safetensors_header.h"
#include "support/process.h"

namespace strata::formats {
namespace {

std::string file_of(const std::string& header, std::size_t data_bytes) {
  std::string out(8, '\0');
  const auto length = static_cast<std::uint64_t>(header.size());
  std::memcpy(out.data(), &length, 8);
  return out + header + std::string(data_bytes, '\0');
}

std::string refusal(const std::string& content) {
  const support::ScratchFolder scratch;
  support::write_file(scratch.path() / "x.safetensors", content);
  const auto opened =
      SafetensorsFile::open(*sys::make_posix_disk(), scratch.path() / "x.safetensors");
  return opened ? "accepted" : opened.error().line();
}

// Before a byte of it is read, however large the file.
TEST(Safetensors, AHeaderBeyondAnyIsRefusedByItsLength) {
  const auto refusal = [](std::uint64_t announced, std::uint64_t file, std::uint64_t most) {
    std::array<std::byte, 8> first{};
    std::memcpy(first.data(), &announced, sizeof announced);
    const auto length = SafetensorsHeader::length(first, file, "x.safetensors", most);
    return length ? "length " + std::to_string(*length) : length.error().line();
  };
  constexpr std::uint64_t kHuge = std::uint64_t{1} << 40;
  EXPECT_EQ(refusal(kHeaderBytesMax + 1, kHuge, kHeaderBytesMax),
            "x.safetensors: header length 104857601 is larger than any that is read; at most "
            "104857600 bytes; fetch or export the file again");
  EXPECT_EQ(refusal(4097, kHuge, 4096),
            "x.safetensors: header length 4097 is larger than any that is read; at most 4096 "
            "bytes; fetch or "
            "export the file again");
  EXPECT_EQ(refusal(4096, kHuge, 4096), "length 4104");
  EXPECT_EQ(refusal(~std::uint64_t{0}, 100, 4096).substr(0, 61),
            "x.safetensors: header length 18446744073709551615 is larger t");
}

struct Broken {
  const char* what;
  std::string content;
  const char* message;
};

TEST(Safetensors, BrokenFilesAreRefusedNamingTensorAndRule) {
  const std::string a = R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  const Broken cases[] = {
      {"too short", "abc", "8-byte length"},
      {"header longer than the file", file_of("{}", 0).substr(0, 9), "header length 2 is larger"},
      {"no object", file_of("[1]", 0), "does not start with '{'"},
      {"duplicate name", file_of("{" + a + "," + a + "}", 8), "has the key \"a\" twice"},
      {"truncated data", file_of("{" + a + "}", 7),
       "tensor a: data_offsets [0, 8] lie outside the 7 data bytes"},
      {"wrong byte count", file_of(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8),
       "tensor a: has 8 bytes; shape and dtype need 12"},
      {"unknown dtype", file_of(R"({"a":{"dtype":"F99","shape":[2],"data_offsets":[0,8]}})", 8),
       "tensor a: has dtype"},
      {"overflowing shape",
       file_of(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}})", 8),
       "overflows"},
      {"negative side", file_of(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8),
       "not negative"},
      {"overlap", file_of("{" + a + R"(,"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8),
       "tensor b: overlaps"},
      {"hole", file_of("{" + a + R"(,"b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]}})", 16),
       "tensor b: leaves a hole"},
      {"bytes of nobody", file_of("{" + a + "}", 12), "4 bytes after the last tensor"},
      {"metadata not text", file_of(R"({"__metadata__":{"k":1},)" + a + "}", 8),
       "__metadata__.k is not a string"},
  };
  for (const auto& broken : cases) {
    EXPECT_NE(refusal(broken.content).find(broken.message), std::string::npos)
        << broken.what << ": " << refusal(broken.content);
  }
}

TEST(Safetensors, WhatIsWrittenIsReadBack) {
  const auto disk = sys::make_posix_disk();
  const support::ScratchFolder scratch;
  const std::vector<float> values{1.5f, -2.0f, 3.25f, 0.0f, 7.0f, 8.0f};
  const std::vector<std::uint8_t> bytes{1, 2, 3};
  const std::vector<TensorToWrite> tensors{
      {"odd", tensor::DType::kU8, {3}, std::as_bytes(std::span(bytes))},
      {"m", tensor::DType::kF32, {2, 3}, std::as_bytes(std::span(values))}};
  ASSERT_TRUE(
      write_safetensors(*disk, scratch.path() / "t.safetensors", tensors, {{"made", "here"}}));
  const auto file = SafetensorsFile::open(*disk, scratch.path() / "t.safetensors").value();
  EXPECT_EQ(file.names(), (std::vector<std::string>{"m", "odd"}));
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(file.metadata().at("made"), "here");
  EXPECT_EQ(file.get("m")->shape, (std::vector<std::size_t>{2, 3}));
  EXPECT_EQ(to_float(*file.get("m"), "m", "t").value(), values);
  EXPECT_FALSE(file.get("none"));
}

TEST(Safetensors, NanIsRefusedWithTensorAndPlace) {
  const std::vector<float> values{1.0f, std::numeric_limits<float>::quiet_NaN()};
  const StoredTensor stored{tensor::DType::kF32, {2}, std::as_bytes(std::span(values))};
  const auto read = to_float(stored, "w", "file");
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().line().find("file: tensor w: value 1 is NaN"), 0u) << read.error().line();
  EXPECT_TRUE(to_float(stored, "w", "file", false));
}

}  // namespace
}  // namespace strata::formats

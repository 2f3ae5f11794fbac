// Frames hold what was put in, however they are cut into pieces, and every broken byte is refused
// before anything is allocated for it.
#include "wire/frame.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/crc32c.h"
#include "sys/random.h"

namespace strata::wire {
namespace {

using testing::HasSubstr;

Frame frame_of(std::string_view text, std::uint16_t type = 3, std::uint64_t sequence = 0) {
  Frame out;
  out.header.type = type;
  out.header.round = 7;
  out.header.sequence = sequence;
  out.header.run[0] = std::byte{0xaa};
  const auto bytes = bytes_of(text);
  out.payload.assign(bytes.begin(), bytes.end());
  return out;
}

// A header whose checksum is right, whatever else is wrong.
void seal(Bytes& frame) {
  const std::uint32_t sum = crc32c(ByteSpan(frame).first(kHeaderBytes - 4));
  std::memcpy(frame.data() + kHeaderBytes - 4, &sum, sizeof sum);
}

Error error_of(Bytes bytes, bool trusted = true) {
  FrameReader reader;
  if (trusted) reader.trust();
  ByteSpan rest(bytes);
  auto taken = reader.take(rest);
  if (taken) throw std::logic_error("no error");
  return taken.error();
}

TEST(Frame, ComesBackAsItWas) {
  const Frame in = frame_of("hello");
  const Bytes bytes = encode(in);
  EXPECT_EQ(bytes.size(), kHeaderBytes + 5 + kTrailerBytes);
  FrameReader reader;
  ByteSpan rest(bytes);
  auto out = reader.take(rest);
  ASSERT_TRUE(out && *out);
  EXPECT_EQ((*out)->payload, in.payload);
  EXPECT_EQ((*out)->header.type, 3);
  EXPECT_EQ((*out)->header.round, 7u);
  EXPECT_EQ((*out)->header.run, in.header.run);
  EXPECT_TRUE(rest.empty());
}

TEST(Frame, ComesBackFromPiecesOfAnySize) {
  Bytes stream;
  for (std::uint64_t i = 0; i < 20; ++i) {
    const Bytes one = encode(frame_of(std::string(i * 37 % 101, 'x'), 1, i));
    stream.insert(stream.end(), one.begin(), one.end());
  }
  sys::Stream draw(5);
  for (int run = 0; run < 50; ++run) {
    FrameReader reader;
    ByteSpan left(stream);
    std::size_t frames = 0;
    while (!left.empty()) {
      ByteSpan piece = left.first(std::min<std::size_t>(1 + draw.below(90), left.size()));
      left = left.subspan(piece.size());
      while (!piece.empty()) {
        auto out = reader.take(piece);
        ASSERT_TRUE(out) << out.error().line();
        if (!*out) continue;
        EXPECT_EQ((*out)->payload.size(), frames++ * 37 % 101);
      }
    }
    EXPECT_EQ(frames, 20u);
    EXPECT_FALSE(reader.inside_frame());
  }
}

TEST(Frame, AnEndInsideAFrameIsSeen) {
  Bytes bytes = encode(frame_of("hello"));
  for (std::size_t n = 1; n < bytes.size(); ++n) {
    FrameReader reader;
    ByteSpan rest = ByteSpan(bytes).first(n);
    ASSERT_TRUE(reader.take(rest));
    EXPECT_TRUE(reader.inside_frame()) << n;
  }
}

TEST(Frame, EveryFlippedBitIsRefused) {
  const Bytes good = encode(frame_of("hello"));
  for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
    Bytes bad = good;
    bad[bit / 8] ^= std::byte(1u << (bit % 8));
    EXPECT_EQ(error_of(bad).code, ErrorCode::kProtocol) << "bit " << bit;
  }
}

TEST(Frame, ALengthBeyondItsCapIsRefusedFromTheHeaderAlone) {
  for (const std::uint64_t length :
       {kControlBytesMax + 1, std::uint64_t{1} << 40, ~std::uint64_t{0}}) {
    Bytes bytes = encode(frame_of(""));
    std::memcpy(bytes.data() + 12, &length, sizeof length);
    seal(bytes);
    EXPECT_THAT(error_of(bytes).line(), HasSubstr("announces " + std::to_string(length)));
  }
  Bytes bulk = encode(frame_of("", kFirstBulkType));
  const std::uint64_t length = kBulkBytesMax + 1;
  std::memcpy(bulk.data() + 12, &length, sizeof length);
  seal(bulk);
  EXPECT_THAT(error_of(bulk).line(), HasSubstr("bytes"));
}

TEST(Frame, AStrangerMaySendLittle) {
  const Bytes bytes = encode(frame_of(std::string(kFirstBytesMax + 1, 'x')));
  EXPECT_THAT(error_of(bytes, false).line(), HasSubstr("4096 are allowed"));
  FrameReader reader;
  reader.trust();
  ByteSpan rest(bytes);
  EXPECT_TRUE(reader.take(rest));
}

TEST(Frame, SequenceNumbersCountOn) {
  FrameReader reader;
  const Bytes first = encode(frame_of("a", 1, 0));
  ByteSpan rest(first);
  ASSERT_TRUE(reader.take(rest));
  rest = first;  // replayed
  const auto again = reader.take(rest);
  ASSERT_FALSE(again);
  EXPECT_THAT(again.error().line(), HasSubstr("sequence number 0; 1 is next"));
}

TEST(Frame, AnotherVersionAndStrangeFlagsAreNamed) {
  Bytes version = encode(frame_of("x"));
  version[4] = std::byte{9};
  seal(version);
  EXPECT_THAT(error_of(version).line(), HasSubstr("version 9"));
  Bytes flags = encode(frame_of("x"));
  flags[8] = std::byte{1};
  seal(flags);
  EXPECT_THAT(error_of(flags).line(), HasSubstr("flags 00000001"));
}

}  // namespace
}  // namespace strata::wire

// Every message is read as it was written, and a message cut or lengthened anywhere is refused.
#include "protocol/messages.h"

#include <gtest/gtest.h>

namespace strata::protocol {
namespace {

Sha256 hash(unsigned seed) {
  Sha256 out;
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::byte>(seed + 7 * i);
  return out;
}

Object object(unsigned seed) {
  return {.hash = hash(seed), .size = 5, .data = Bytes(5, static_cast<std::byte>(seed))};
}

// One of each, no field at its default.
std::vector<Message> all() {
  RunId run;
  run.fill(std::byte{3});
  const Training training{1, 2, 3, 4.5, 3.25, 0.125, 1e-3};
  return {
      Hello{1, 9, "strata 0.1.0", run, hash(1), {7, hash(2)}, {hash(23), 11, hash(24)}},
      Welcome{2, run, "clinic-a", R"({"version":1})", {3, hash(4)}, 6, {hash(25), 12, hash(26)}},
      Ready{{3, hash(4)}},
      RoundOpen{4, 9, hash(5), Restart::kMean, true, 12.5},
      Offer{4, hash(6), object(7), training, {hash(27), 13, hash(28)}},
      Failed{5, hash(6), "no records"},
      Ack{5, hash(6), hash(8), Outcome::kRetryLater, "the disk is full"},
      RoundDone{{5, hash(9)}, object(10)},
      CatchUp{{2, hash(11)}},
      History{{{{3, hash(12)}, object(13)}, {{4, hash(14)}, object(15)}},
              {9, hash(16)},
              object(17),
              hash(18)},
      Fetch{hash(19), 1u << 20, 77},
      Finished{{9, hash(20)}, hash(21)},
      Problem{"E_QUORUM", "too few", true},
      Chunk{hash(22), 4096, Bytes(33, std::byte{1})}};
}

TEST(Messages, AreReadAsTheyWereWritten) {
  RunId run;
  run.fill(std::byte{42});
  const auto messages = all();
  ASSERT_EQ(messages.size(), std::variant_size_v<Message>);
  for (const auto& message : messages) {
    const wire::Frame frame = to_frame(message, run);
    EXPECT_EQ(frame.header.run, run);
    const auto read = from_frame(frame);
    ASSERT_TRUE(read) << name(message) << ": " << read.error().line();
    EXPECT_EQ(read->index(), message.index());
    // A field that one side forgets is missing here, or shifts those behind it.
    EXPECT_EQ(to_frame(*read, run).payload, frame.payload) << name(message);
  }
  const auto opened = std::get<RoundOpen>(*from_frame(to_frame(messages[3], run)));
  EXPECT_EQ(opened.round, 4u);
  EXPECT_EQ(opened.rounds, 9u);
  EXPECT_EQ(opened.base, hash(5));
  EXPECT_EQ(opened.restart, Restart::kMean);
  EXPECT_TRUE(opened.used_before);
  EXPECT_EQ(opened.deadline_seconds, 12.5);
  const auto history = std::get<History>(*from_frame(to_frame(messages[9], run)));
  ASSERT_EQ(history.rounds.size(), 2u);
  EXPECT_EQ(history.rounds[1].head.round, 4u);
  EXPECT_EQ(history.rounds[1].result.data, object(15).data);
  EXPECT_EQ(history.snapshot.hash, hash(17));
  EXPECT_EQ(history.state, hash(18));
}

TEST(Messages, AChunkOfBorrowedBytesIsTheSameFrame) {
  RunId run;
  run.fill(std::byte{42});
  Bytes data(5000);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i);
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, data.size()}) {
    const ByteSpan part = ByteSpan(data).first(size);
    const wire::Frame frame = chunk_frame(hash(3), 77, part, run);
    const Chunk whole{hash(3), 77, Bytes(part.begin(), part.end())};
    const wire::Frame copied = to_frame(whole, run);
    EXPECT_EQ(frame.payload, copied.payload);
    EXPECT_EQ(frame.header.run, run);
    EXPECT_EQ(frame.header.type, copied.header.type);
    const auto read = std::get<Chunk>(*from_frame(frame));
    EXPECT_EQ(read.object, hash(3));
    EXPECT_EQ(read.offset, 77u);
    EXPECT_EQ(read.data, whole.data);
  }
}

TEST(Messages, CutOrLengthenedAnywhereAreRefused) {
  for (const auto& message : all()) {
    const wire::Frame whole = to_frame(message, {});
    for (std::size_t n = 0; n < whole.payload.size(); ++n) {
      wire::Frame cut = whole;
      cut.payload.resize(n);
      const auto read = from_frame(cut);
      ASSERT_FALSE(read) << name(message) << " cut to " << n << " of " << whole.payload.size();
      EXPECT_EQ(read.error().code, ErrorCode::kProtocol);
    }
    wire::Frame longer = whole;
    longer.payload.push_back(std::byte{0});
    EXPECT_FALSE(from_frame(longer)) << name(message);
  }
}

// A flipped bit gives a refusal or another message, never a crash or a huge allocation.
TEST(Messages, WithAnyBitFlippedAreReadOrRefused) {
  for (const auto& message : all()) {
    const wire::Frame whole = to_frame(message, {});
    for (std::size_t bit = 0; bit < 8 * whole.payload.size(); ++bit) {
      wire::Frame flipped = whole;
      flipped.payload[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
      const auto read = from_frame(flipped);
      if (!read) continue;
      EXPECT_EQ(to_frame(*read, {}).payload, flipped.payload) << name(message);
    }
  }
}

}  // namespace
}  // namespace strata::protocol

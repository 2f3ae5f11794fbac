#pragma once
// Frames: how messages travel as bytes, whatever carries them (docs/formats/wire.md).
//   magic 4 | version 2 | type 2 | flags 4 | payload length 8 | run 16 | round 8 | sequence 8 |
//   CRC-32C of the header before it 4 | payload | CRC-32C of the payload 4
// All little-endian. The checksums find our own mistakes, a cluster's network and disks; TLS and
// the hashes inside messages are what holds against people. Nothing here knows what a type means.
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"

namespace strata::wire {

inline constexpr std::uint32_t kMagic = 0x41525453;  // "STRA"
inline constexpr std::uint16_t kFrameVersion = 1;
inline constexpr std::size_t kHeaderBytes = 56;
inline constexpr std::size_t kTrailerBytes = 4;
/// Largest payloads: before the peer is known, of a control message, of a message with a chunk.
inline constexpr std::uint64_t kFirstBytesMax = 4096;
inline constexpr std::uint64_t kControlBytesMax = 1u << 20;
inline constexpr std::uint64_t kChunkBytes = 4u << 20;
inline constexpr std::uint64_t kBulkBytesMax = kChunkBytes + 256;
/// Types from here on may carry a chunk.
inline constexpr std::uint16_t kFirstBulkType = 0x100;

using RunId = std::array<std::byte, 16>;

struct Header {
  std::uint16_t type = 0;
  std::uint32_t flags = 0;
  std::uint64_t length = 0;  // of the payload
  RunId run{};
  std::uint64_t round = 0;
  std::uint64_t sequence = 0;  // counts the frames of a connection and direction, from 0
};

struct Frame {
  Header header;  // `length` is set by encode()
  Bytes payload;
};

/// The whole frame.
[[nodiscard]] Bytes encode(const Frame& frame);

/// What encode() puts before and after the payload: for those who send a large one without copying
/// it.
struct FrameEnds {
  std::array<std::byte, kHeaderBytes> head{};
  std::array<std::byte, kTrailerBytes> tail{};
};
[[nodiscard]] FrameEnds encode_ends(const Frame& frame);

/// A header from its kHeaderBytes bytes. kProtocol naming what is wrong: magic, version, checksum,
/// flags that nobody defined.
[[nodiscard]] Result<Header> decode_header(ByteSpan bytes);

/// Puts frames together from pieces of any size, as they come from one connection and direction.
/// Refuses before it allocates: a payload beyond the cap of its type, a sequence that does not
/// count on. After an error the connection is of no more use. Not thread-safe.
class FrameReader {
 public:
  /// `first_max`: cap of every frame until trust() is called.
  explicit FrameReader(std::uint64_t first_max = kFirstBytesMax) : first_max_(first_max) {}
  /// The peer is known now: the caps of the types hold.
  void trust() { trusted_ = true; }
  /// Takes bytes off the front of `bytes` up to the end of a frame; that frame when one is
  /// complete.
  [[nodiscard]] Result<std::optional<Frame>> take(ByteSpan& bytes);
  /// Whether a frame has begun and is not complete: an end of the stream now is a truncation.
  [[nodiscard]] bool inside_frame() const { return filled_ > 0; }

 private:
  [[nodiscard]] Result<void> begin_payload();

  std::uint64_t first_max_;
  bool trusted_ = false;
  std::uint64_t next_sequence_ = 0;
  std::array<std::byte, kHeaderBytes> head_{};
  std::array<std::byte, kTrailerBytes> tail_{};
  std::size_t filled_ = 0;  // of header, payload and trailer together
  Frame frame_;
};

}  // namespace strata::wire

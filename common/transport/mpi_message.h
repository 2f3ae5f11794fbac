#pragma once
// The header before everything that one rank sends to another:
//   magic 4 | kind 2 | end 2 | connection 8 | offset 8 | total 8
// All little-endian. Behind it: of kData, the bytes of an encoded frame (wire/frame.h) from
// `offset` on, of `total`; of the others a short text whole. For the files mpi*.cpp only.
#include <array>
#include <cstddef>
#include <cstdint>

#include "base/bytes.h"
#include "base/result.h"

namespace strata::transport {

/// Longest message with its header: what is short goes between them, and a rank that dies takes one
/// along. On a line of 1 Gbit/s 2 ms.
inline constexpr std::size_t kMpiPieceMax = std::size_t{256} << 10;
inline constexpr std::size_t kMpiHeaderBytes = 32;
inline constexpr std::size_t kMpiTextMax = 256;

enum class MpiKind : std::uint16_t {
  kOpen = 1,      // from a dialer: the text is its id
  kAccept = 2,    // the connection is open
  kData = 3,      // a piece of a frame
  kClose = 4,     // it has ended; the text says why
  kBeat = 5,      // this rank is there; of no connection
  kFarewell = 6,  // this rank goes; of no connection
};

/// Which end of a connection a message is for.
enum class MpiEnd : std::uint16_t { kListener = 0, kDialer = 1 };

struct MpiMessage {
  MpiKind kind = MpiKind::kBeat;
  MpiEnd end = MpiEnd::kListener;
  std::uint64_t connection = 0;  // the dialer's rank counts its connections
  std::uint64_t offset = 0;
  std::uint64_t total = 0;
  ByteSpan body{};
};

[[nodiscard]] std::array<std::byte, kMpiHeaderBytes> encode_header(const MpiMessage& message);

/// Borrows `bytes`. kProtocol naming what is wrong.
[[nodiscard]] Result<MpiMessage> decode_message(ByteSpan bytes);

}  // namespace strata::transport

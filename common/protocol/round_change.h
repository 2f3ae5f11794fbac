#pragma once
// What a round came to, as every party gets it: the packet that is folded into the base, and the
// averaged factors where a control method leaves them beside it (docs/formats/packet.md).
//   u32 format (1), u64 packet bytes, packet, u64 bytes of the factors as a packet (0: none), these
#include <map>
#include <string>

#include "adapter/packet.h"
#include "base/bytes.h"

namespace strata::protocol {

/// One tensor's averaged factors (control methods): scale folded into B, rank the largest client's.
using MeanFactors = std::map<std::string, adapter::LowRank, std::less<>>;

struct RoundChange {
  adapter::Packet packet;
  MeanFactors mean_factors;

  [[nodiscard]] Bytes bytes() const;
  /// Names everything the round changed; what the chain of a run is made of.
  [[nodiscard]] Sha256 hash() const;
  /// kFormat as Packet::parse().
  [[nodiscard]] static Result<RoundChange> parse(ByteSpan bytes,
                                                 const adapter::TensorShapes& expected);
};

/// Averaged factors as a change of the base: to fold them in at the end, or to export them.
[[nodiscard]] adapter::Packet as_packet(const MeanFactors& factors);

}  // namespace strata::protocol

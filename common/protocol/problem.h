#pragma once
// Errors as messages and back: what one side tells the other before it closes.
#include <string>
#include <string_view>

#include "protocol/messages.h"

namespace strata::protocol {

/// Bytes of an object that a side asks for ahead of what it has received.
inline constexpr std::uint64_t kAheadChunks = 2;
inline constexpr std::uint64_t kAheadBytes = kAheadChunks * wire::kChunkBytes;

/// A peer said what it must not say here.
[[nodiscard]] Error breach(std::string what, std::string rule);

/// `retry`: another attempt later may go well.
[[nodiscard]] Problem problem_of(const Error& error, bool retry = false);
/// What a peer told, as an error of ours: "the coordinator says: ...". A code that nobody knows, or
/// a problem that may pass, is kPeer.
[[nodiscard]] Error error_of(const Problem& problem, std::string_view who);

}  // namespace strata::protocol

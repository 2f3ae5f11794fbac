#include "transport/mpi_message.h"

#include <fmt/format.h>

#include <algorithm>

#include "wire/frame.h"

namespace strata::transport {
namespace {

constexpr std::uint32_t kMagic = 0x49504d53;  // "SMPI"

Error broken(std::string what, std::string rule) {
  return {.code = ErrorCode::kProtocol, .what = std::move(what), .rule = std::move(rule)};
}

}  // namespace

std::array<std::byte, kMpiHeaderBytes> encode_header(const MpiMessage& message) {
  ByteWriter out;
  out.reserve(kMpiHeaderBytes);
  out.number(kMagic);
  out.number(static_cast<std::uint16_t>(message.kind));
  out.number(static_cast<std::uint16_t>(message.end));
  out.number(message.connection);
  out.number(message.offset);
  out.number(message.total);
  const Bytes bytes = std::move(out).take();
  std::array<std::byte, kMpiHeaderBytes> head{};
  std::copy(bytes.begin(), bytes.end(), head.begin());
  return head;
}

Result<MpiMessage> decode_message(ByteSpan bytes) {
  ByteReader in(bytes);
  const auto magic = in.number<std::uint32_t>();
  if (bytes.size() < kMpiHeaderBytes || magic != kMagic)
    return fail(broken("sent a message that is not strata's", "all ranks run the same program"));
  const auto kind = *in.number<std::uint16_t>();
  const auto end = *in.number<std::uint16_t>();
  if (kind < 1 || kind > static_cast<std::uint16_t>(MpiKind::kFarewell) || end > 1)
    return fail(broken(fmt::format("sent a message of kind {} for end {}", kind, end),
                       "all ranks run the same version"));
  MpiMessage out{.kind = static_cast<MpiKind>(kind), .end = static_cast<MpiEnd>(end)};
  out.connection = *in.number<std::uint64_t>();
  out.offset = *in.number<std::uint64_t>();
  out.total = *in.number<std::uint64_t>();
  out.body = bytes.subspan(kMpiHeaderBytes);
  const std::uint64_t most = out.kind == MpiKind::kData
                                 ? wire::kHeaderBytes + wire::kBulkBytesMax + wire::kTrailerBytes
                                 : kMpiTextMax;
  // In this order nothing overflows.
  if (out.total > most || out.offset > out.total || out.body.size() > out.total - out.offset ||
      (out.kind != MpiKind::kData && out.body.size() != out.total))
    return fail(broken(fmt::format("sent bytes {} to {} of {}", out.offset,
                                   out.offset + out.body.size(), out.total),
                       fmt::format("{} are the most", most)));
  return out;
}

}  // namespace strata::transport

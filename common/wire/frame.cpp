#include "wire/frame.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/crc32c.h"

namespace strata::wire {
namespace {

Error broken(std::string what, std::string rule) {
  return {.code = ErrorCode::kProtocol,
          .what = std::move(what),
          .where = "frame",
          .rule = std::move(rule)};
}

// Copies from the front of `bytes` into `into` from byte `at` on, as much as fits.
std::size_t fill(std::span<std::byte> into, std::size_t at, ByteSpan& bytes) {
  const std::size_t n = std::min(into.size() - at, bytes.size());
  std::copy_n(bytes.begin(), n, into.begin() + static_cast<std::ptrdiff_t>(at));
  bytes = bytes.subspan(n);
  return n;
}

}  // namespace

FrameEnds encode_ends(const Frame& frame) {
  const Header& h = frame.header;
  ByteWriter out;
  out.reserve(kHeaderBytes);
  out.number(kMagic);
  out.number(kFrameVersion);
  out.number(h.type);
  out.number(h.flags);
  out.number(static_cast<std::uint64_t>(frame.payload.size()));
  out.raw(h.run);
  out.number(h.round);
  out.number(h.sequence);
  Bytes bytes = std::move(out).take();
  const std::uint32_t sum = crc32c(bytes);
  FrameEnds ends;
  std::memcpy(ends.head.data(), bytes.data(), kHeaderBytes - sizeof sum);
  std::memcpy(ends.head.data() + kHeaderBytes - sizeof sum, &sum, sizeof sum);
  const std::uint32_t tail = crc32c(frame.payload);
  std::memcpy(ends.tail.data(), &tail, sizeof tail);
  return ends;
}

Bytes encode(const Frame& frame) {
  const FrameEnds ends = encode_ends(frame);
  ByteWriter out;
  out.reserve(kHeaderBytes + frame.payload.size() + kTrailerBytes);
  out.raw(ends.head);
  out.raw(frame.payload);
  out.raw(ends.tail);
  return std::move(out).take();
}

Result<Header> decode_header(ByteSpan bytes) {
  check(bytes.size() == kHeaderBytes, "a header is decoded from all of its bytes");
  ByteReader in(bytes);
  const auto magic = *in.number<std::uint32_t>();
  if (magic != kMagic) {
    return fail(broken(fmt::format("begins with {:08x}", magic),
                       fmt::format("every frame begins with {:08x}", kMagic)));
  }
  const auto version = *in.number<std::uint16_t>();
  if (version != kFrameVersion) {
    return fail(broken(fmt::format("is of version {}", version),
                       fmt::format("this program speaks version {}", kFrameVersion)));
  }
  Header out;
  out.type = *in.number<std::uint16_t>();
  out.flags = *in.number<std::uint32_t>();
  out.length = *in.number<std::uint64_t>();
  const auto run = *in.raw(out.run.size());
  std::copy(run.begin(), run.end(), out.run.begin());
  out.round = *in.number<std::uint64_t>();
  out.sequence = *in.number<std::uint64_t>();
  const auto sum = *in.number<std::uint32_t>();
  if (const auto own = crc32c(bytes.first(kHeaderBytes - sizeof sum)); own != sum) {
    return fail(broken(fmt::format("has header checksum {:08x}", sum),
                       fmt::format("its bytes give {:08x}", own)));
  }
  if (out.flags != 0)
    return fail(broken(fmt::format("has flags {:08x}", out.flags), "no flag is defined"));
  return out;
}

Result<void> FrameReader::begin_payload() {
  auto header = decode_header(head_);
  if (!header) return fail(std::move(header).error());
  const std::uint64_t cap = header->type >= kFirstBulkType ? kBulkBytesMax : kControlBytesMax;
  const std::uint64_t allowed = trusted_ ? cap : std::min(cap, first_max_);
  if (header->length > allowed) {
    return fail(broken(fmt::format("of type {} announces {} bytes", header->type, header->length),
                       fmt::format("{} are allowed here", allowed)));
  }
  if (header->sequence != next_sequence_) {
    return fail(broken(fmt::format("has sequence number {}", header->sequence),
                       fmt::format("{} is next on this connection", next_sequence_)));
  }
  ++next_sequence_;
  frame_.header = *header;
  frame_.payload.clear();
  frame_.payload.reserve(header->length);
  return {};
}

Result<std::optional<Frame>> FrameReader::take(ByteSpan& bytes) {
  if (filled_ < kHeaderBytes) {
    filled_ += fill(head_, filled_, bytes);
    if (filled_ < kHeaderBytes) return std::nullopt;
    if (auto begun = begin_payload(); !begun) return fail(std::move(begun).error());
  }
  const std::size_t payload_end = kHeaderBytes + frame_.header.length;
  if (filled_ < payload_end) {
    const ByteSpan part = bytes.first(std::min(payload_end - filled_, bytes.size()));
    frame_.payload.insert(frame_.payload.end(), part.begin(), part.end());
    filled_ += part.size();
    bytes = bytes.subspan(part.size());
  }
  if (filled_ >= payload_end) filled_ += fill(tail_, filled_ - payload_end, bytes);
  if (filled_ < payload_end + kTrailerBytes) return std::nullopt;
  filled_ = 0;
  const auto sum = *ByteReader(tail_).number<std::uint32_t>();
  if (const auto own = crc32c(frame_.payload); own != sum) {
    return fail(broken(fmt::format("has payload checksum {:08x}", sum),
                       fmt::format("its bytes give {:08x}", own)));
  }
  return std::optional<Frame>(std::move(frame_));
}

}  // namespace strata::wire

#include "protocol/round_change.h"

namespace strata::protocol {
namespace {

constexpr std::uint32_t kChangeFormat = 1;

tl::unexpected<Error> broken(std::string what) {
  return fail({.code = ErrorCode::kFormat,
               .what = std::move(what),
               .where = "result of a round",
               .remedy = "fetch it again"});
}

}  // namespace

adapter::Packet as_packet(const MeanFactors& factors) {
  adapter::Packet out;
  for (const auto& [name, pair] : factors) {
    out.tensors.emplace(
        name, adapter::PacketTensor{pair.b.rows(), pair.a.cols(), adapter::Stack{pair.b, pair.a}});
  }
  return out;
}

Sha256 RoundChange::hash() const {
  if (mean_factors.empty()) return packet.hash();
  Hasher hasher;
  hasher.add(packet.hash());
  hasher.add(as_packet(mean_factors).hash());
  return hasher.finish();
}

Bytes RoundChange::bytes() const {
  const auto packet_bytes = packet.bytes();
  const auto mean_bytes = mean_factors.empty() ? Bytes{} : as_packet(mean_factors).bytes();
  ByteWriter out;
  out.reserve(packet_bytes.size() + mean_bytes.size() + 20);
  out.number(kChangeFormat);
  for (const Bytes* part : {&packet_bytes, &mean_bytes}) {
    out.number(static_cast<std::uint64_t>(part->size()));
    out.raw(*part);
  }
  return std::move(out).take();
}

Result<RoundChange> RoundChange::parse(ByteSpan bytes, const adapter::TensorShapes& expected) {
  ByteReader in(bytes);
  const auto format = in.number<std::uint32_t>();
  if (!format) return broken("ends early");
  if (*format != kChangeFormat) return broken("is of format " + std::to_string(*format));
  RoundChange out;
  const auto part = [&]() -> std::optional<ByteSpan> {
    const auto size = in.number<std::uint64_t>();
    return size ? in.raw(*size) : std::nullopt;
  };
  const auto packet = part();
  const auto mean = packet ? part() : std::nullopt;
  if (!mean) return broken("ends early");
  if (in.left() != 0) return broken("has bytes behind its end");
  auto read = adapter::Packet::parse(*packet, expected);
  if (!read) return fail(std::move(read).error());
  out.packet = std::move(*read);
  if (mean->empty()) return out;
  auto factors = adapter::Packet::parse(*mean, expected);
  if (!factors) return fail(std::move(factors).error());
  for (auto& [name, tensor] : factors->tensors) {
    auto* stack = std::get_if<adapter::Stack>(&tensor.change);
    if (stack == nullptr) return broken("has averaged factors that are none");
    out.mean_factors.emplace(name,
                             adapter::LowRank{.b = std::move(stack->b), .a = std::move(stack->a)});
  }
  return out;
}

}  // namespace strata::protocol

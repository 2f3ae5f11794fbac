#include "adapter/packet.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace strata::adapter {
namespace {

using tensor::Matrix;

static_assert(std::endian::native == std::endian::little,
              "packets are little-endian and written as they lie in memory");

enum class Kind : std::uint8_t { kStack = 0, kDense = 1, kProduct = 2 };

Kind kind_of(const PacketTensor& tensor) {
  if (std::holds_alternative<Stack>(tensor.change)) return Kind::kStack;
  return std::holds_alternative<Dense>(tensor.change) ? Kind::kDense : Kind::kProduct;
}

template <class Number, class Sink>
void put(Sink& sink, Number value) {
  sink(std::as_bytes(std::span(&value, 1)));
}

// Hands the canonical bytes to `sink`, piece by piece.
template <class Sink>
void write(const Packet& packet, Sink&& sink) {
  put(sink, kPacketFormat);
  put(sink, static_cast<std::uint32_t>(packet.tensors.size()));
  for (const auto& [name, tensor] : packet.tensors) {
    put(sink, static_cast<std::uint32_t>(name.size()));
    sink(std::as_bytes(std::span(name)));
    put(sink, kind_of(tensor));
    put(sink, static_cast<std::uint64_t>(tensor.d_out));
    put(sink, static_cast<std::uint64_t>(tensor.d_in));
    if (const auto* stack = std::get_if<Stack>(&tensor.change)) {
      put(sink, static_cast<std::uint64_t>(stack->a.rows()));
      sink(std::as_bytes(stack->b.values()));
      sink(std::as_bytes(stack->a.values()));
    } else {
      sink(std::as_bytes(whole_values(tensor)->values()));
    }
  }
}

// `values` as a product with the identity of the shorter side.
LowRank beside_identity(const Matrix& values) {
  const std::size_t rank = std::min(values.rows(), values.cols());
  Matrix identity(rank, rank);
  for (std::size_t i = 0; i < rank; ++i) identity(i, i) = 1.0f;
  if (values.cols() <= values.rows()) return {.b = values, .a = std::move(identity)};
  return {.b = std::move(identity), .a = values};
}

}  // namespace

const Matrix* whole_values(const PacketTensor& tensor) {
  if (const auto* dense = std::get_if<Dense>(&tensor.change)) return &dense->values;
  const auto* product = std::get_if<StackProduct>(&tensor.change);
  return product == nullptr ? nullptr : &product->values;
}

std::vector<std::byte> Packet::bytes() const {
  std::vector<std::byte> out;
  out.reserve(byte_count());
  write(*this, [&](std::span<const std::byte> piece) {
    out.insert(out.end(), piece.begin(), piece.end());
  });
  return out;
}

std::size_t Packet::byte_count() const {
  std::size_t n = 0;
  write(*this, [&](std::span<const std::byte> piece) { n += piece.size(); });
  return n;
}

Sha256 Packet::hash() const {
  Hasher hasher;
  write(*this, [&](std::span<const std::byte> piece) { hasher.add(piece); });
  return hasher.finish();
}

std::size_t Packet::max_rank() const {
  std::size_t rank = 0;
  for (const auto& [name, tensor] : tensors) {
    const auto* stack = std::get_if<Stack>(&tensor.change);
    rank = std::max(rank, stack != nullptr ? stack->a.rows() : std::min(tensor.d_out, tensor.d_in));
  }
  return rank;
}

DeltaTerms Packet::terms() const {
  DeltaTerms out;
  for (const auto& [name, tensor] : tensors) {
    TensorDelta delta{tensor.d_out, tensor.d_in, {}};
    if (const auto* stack = std::get_if<Stack>(&tensor.change)) {
      delta.terms.emplace_back(LowRank{.b = stack->b, .a = stack->a});
    } else if (const auto* dense = std::get_if<Dense>(&tensor.change)) {
      delta.terms.emplace_back(*dense);
    } else {
      delta.terms.emplace_back(beside_identity(*whole_values(tensor)));
    }
    out.emplace(name, std::move(delta));
  }
  return out;
}

Sha256 chain_hash(const Sha256& previous, std::uint64_t round, const Sha256& packet,
                  const Sha256& plan) {
  Hasher hasher;
  hasher.add(previous);
  hasher.add(std::as_bytes(std::span(&round, 1)));
  hasher.add(plan);
  hasher.add(packet);
  return hasher.finish();
}

}  // namespace strata::adapter

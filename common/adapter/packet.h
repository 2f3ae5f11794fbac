#pragma once
// The packet that defines a round: for each changed tensor stacked factors, their product, or a
// dense change, in one canonical form. Every party applies it with the one merge routine below, so
// that all hold the same bits (docs/methods/flora.md).
//   W <- f32( W + sum_j B[:, j] A[j, :] ),  sum in double, j from 0 up
// Threads: values; merge() shares its work out over a team and gives the same bits for any team,
// instruction set and layout.
//
// Canonical bytes, all little-endian: u32 format (1), u32 number of tensors, then per tensor in the
// order of names
//   u32 name length, name, u8 kind (0 stack, 1 dense, 2 product), u64 d_out, u64 d_in, u64 R (stack
//   only), f32 values row-major, B before A
#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "adapter/delta_terms.h"
#include "adapter/product_kernel.h"
#include "base/hash.h"
#include "base/result.h"
#include "tensor/team.h"

namespace strata::adapter {

inline constexpr std::uint32_t kPacketFormat = 1;

/// B: d_out x R, A: R x d_in; weights and scales are already inside.
struct Stack {
  tensor::Matrix b;
  tensor::Matrix a;
  friend bool operator==(const Stack&, const Stack&) = default;
};

/// B A of a stack whose rank is above min(d_out, d_in): d_out x d_in, rounded to float once.
struct StackProduct {
  tensor::Matrix values;
  friend bool operator==(const StackProduct&, const StackProduct&) = default;
};

struct PacketTensor {
  std::size_t d_out = 0;
  std::size_t d_in = 0;
  std::variant<Stack, Dense, StackProduct> change;
};

/// The change by its values, d_out x d_in; null for a stack.
[[nodiscard]] const tensor::Matrix* whole_values(const PacketTensor& tensor);

/// Name of a tensor -> (d_out, d_in): what a receiver knows of its own model.
using TensorShapes = std::map<std::string, std::pair<std::size_t, std::size_t>, std::less<>>;

struct Packet {
  std::map<std::string, PacketTensor, std::less<>> tensors;

  [[nodiscard]] bool empty() const { return tensors.empty(); }
  [[nodiscard]] std::vector<std::byte> bytes() const;
  /// Length of bytes(), without making them.
  [[nodiscard]] std::size_t byte_count() const;
  /// SHA-256 of bytes(), without making them.
  [[nodiscard]] Sha256 hash() const;
  /// The largest rank of a tensor's change.
  [[nodiscard]] std::size_t max_rank() const;
  /// The same change as terms: for export and comparison. A product has an identity beside it.
  [[nodiscard]] DeltaTerms terms() const;

  /// Reads canonical bytes that came from elsewhere. kFormat naming tensor and rule unless they are
  /// canonical: known tensors of the receiver's shapes, in order, each once; finite values; no byte
  /// missing or left over. Nothing is allocated before the bytes that would fill it are known to be
  /// there.
  [[nodiscard]] static Result<Packet> parse(std::span<const std::byte> bytes,
                                            const TensorShapes& expected);
};

/// chain_t = SHA-256(chain_{t-1} | t as u64 | plan | packet hash): names the whole history in 32
/// bytes. `plan` is the hash of what the parties agreed on beforehand; zeros where nothing but the
/// base is agreed.
[[nodiscard]] Sha256 chain_hash(const Sha256& previous, std::uint64_t round, const Sha256& packet,
                                const Sha256& plan = {});

/// Folds one tensor's change into W, stored d_out x d_in row-major, or d_in x d_out when
/// `transposed`. Against the exact result W* each element errs by at most  gamma (|W| + |B||A|) +
/// u32 |W*|,  gamma = (R + 1) u64 / (1 - (R + 1) u64), u32 = 2^-24, u64 = 2^-53.
void merge(std::span<float> w, bool transposed, const PacketTensor& change,
           tensor::Team* team = nullptr);
/// Room for packed factors, kept from one tensor's merge to the next: a model has hundreds.
struct MergeRoom {
  std::vector<double> right;
  std::vector<std::vector<double>> left;  // by member of the team
};
/// The same bits by a given kernel.
void merge(std::span<float> w, bool transposed, const PacketTensor& change,
           const ProductKernel& kernel, tensor::Team& team, MergeRoom& room);

/// out (count x d_in, row-major) = rows [first, first + count) of the change itself in double: the
/// merge's sum without W.
void packet_rows(const PacketTensor& change, std::size_t first, std::size_t count,
                 std::span<double> out);

}  // namespace strata::adapter

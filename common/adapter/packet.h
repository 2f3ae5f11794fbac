#pragma once
// The packet that defines a round: for each changed tensor either stacked factors or a dense change, in one canonical form.
// Every party applies it with the one merge routine below, so that all hold the same bits (docs/methods/flora.md).
//   W <- f32( W + sum_j B[:, j] A[j, :] ),  sum in double, j from 0 up
// Threads: values; merge() uses the calling thread's team and gives the same bits for any team.
#include <map>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "adapter/delta_terms.h"
#include "base/hash.h"
#include "base/result.h"

namespace strata::adapter {

/// B: d_out x R, A: R x d_in; weights and scales are already inside.
struct Stack {
  tensor::Matrix b;
  tensor::Matrix a;
};

struct PacketTensor {
  std::size_t d_out = 0;
  std::size_t d_in = 0;
  std::variant<Stack, Dense> change;
};

struct Packet {
  std::map<std::string, PacketTensor, std::less<>> tensors;

  [[nodiscard]] bool empty() const { return tensors.empty(); }
  /// Bytes of the canonical form.
  [[nodiscard]] std::size_t byte_count() const;
  /// Sum over tensors of the stacked rank, and the largest.
  [[nodiscard]] std::size_t max_rank() const;
  /// SHA-256 of the canonical bytes: per tensor in name order u32 name length, name, u8 kind (0 stack, 1 dense), u64 d_out,
  /// u64 d_in, u64 R (stack), then f32 values row-major (B before A); everything little-endian.
  [[nodiscard]] Sha256 hash() const;
  /// The same change as terms: for export and comparison.
  [[nodiscard]] DeltaTerms terms() const;
};

/// chain_t = SHA-256(chain_{t-1} | t | packet hash): names the whole history in 32 bytes.
[[nodiscard]] Sha256 chain_hash(const Sha256& previous, std::uint64_t round, const Sha256& packet);

/// Folds one tensor's change into W, stored d_out x d_in row-major, or d_in x d_out when `transposed`. Products of two floats are
/// exact in double, so the sum has the same bits whether or not the compiler fuses multiply and add.
void merge(std::span<float> w, bool transposed, const PacketTensor& change);

/// out (d_out x d_in row-major) = the change itself in double, rows [first, first + count): the merge's sum without W.
void packet_rows(const PacketTensor& change, std::size_t first, std::size_t count, std::span<double> out);

}  // namespace strata::adapter

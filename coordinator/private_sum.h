#pragma once
// What hides single clients in a round's sum, as the coordinator sees it: a budget, bounds and
// noise that somebody else knows of. The mode client_central (docs/manual/privacy.md).
//   charge  ->  begin  ->  add*  ->  release  ->  result on the disk  ->  released  ->  announced
// Between charge and released a crash costs the round's charge: whoever comes after it and finds no
// result charges again and draws other noise.
// Threads: one.
#include <cstdint>
#include <span>

#include "base/hash.h"
#include "base/result.h"
#include "protocol/messages.h"
#include "tensor/team.h"

namespace strata::coordinator {

class PrivateSum {
 public:
  virtual ~PrivateSum() = default;
  /// Whether the round could be charged now; charges nothing. kBudget saying by how much not.
  [[nodiscard]] virtual Result<void> affordable(const protocol::RunId& run,
                                                std::uint32_t round) = 0;
  /// Durable when it returns; nothing is given back. kBudget, kIo, kDiskFull.
  [[nodiscard]] virtual Result<void> charge(const protocol::RunId& run, std::uint32_t round) = 0;

  /// An empty sum of vectors of `values` numbers for the round that was charged.
  [[nodiscard]] virtual Result<void> begin(std::uint32_t round, std::size_t values) = 0;
  /// What the client changed, which is overwritten: clipped, and weighted as the plan says.
  virtual void add(const protocol::ClientId& client, std::span<float> change,
                   tensor::Team& team) = 0;
  /// The noisy mean over the plan's constant, also of nobody. kInternal when no charge was made for
  /// it: each charge is for one release.
  [[nodiscard]] virtual Result<void> release(std::span<float> out, tensor::Team& team) = 0;

  /// `result` names what is about to be told for the round; the same again is free. kBudget when
  /// the round was not charged, or something else was told for its charge.
  [[nodiscard]] virtual Result<void> released(const protocol::RunId& run, std::uint32_t round,
                                              const Sha256& result) = 0;
};

}  // namespace strata::coordinator

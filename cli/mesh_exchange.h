#pragma once
// How the members of a mesh bring each other what their clients trained, by whichever is fewer
// bytes for a member:
//   gather    all updates to everybody, each of whom merges them    F (1 - 1/N)
//   scatter   of every update to each member the tensors that it merges, and what it has merged
//             to everybody (a reduce-scatter and an all-gather)     F (1 - 1/N) / N + P (1 - 1/N)
// with F the bytes of all updates of a round, P those of what it comes to, and N members. A tensor
// is merged by one member alone, from the same bytes by the same routine, so both come to the same
// bits.
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "adapter/packet.h"
#include "cli/job.h"
#include "coordinator/aggregator/aggregator.h"
#include "model/model.h"

namespace strata::cli {

/// Who merges which tensors.
class Shards {
 public:
  /// Deals the tensors that `planned` change out to members 0, 1, ...: the largest first, each to
  /// who has the least so far.
  Shards(std::span<const coordinator::PlannedUpdate> planned, const model::Model& base,
         std::size_t members);
  /// Of a tensor that nobody is planned to change: 0.
  [[nodiscard]] std::size_t owner(std::string_view tensor) const;

 private:
  std::map<std::string, std::size_t, std::less<>> owners_;
};

/// Bytes that a member gets in a round, on average.
struct ExchangeBytes {
  double gather = 0.0;
  double scatter = 0.0;
};
/// Of what clients send, and what it comes to when it is stacked.
[[nodiscard]] ExchangeBytes exchange_bytes(const Job& job,
                                           std::span<const coordinator::PlannedUpdate> planned,
                                           const model::Model& base, std::size_t members);
/// What aggregation.exchange says, or what is fewer bytes.
[[nodiscard]] bool scatters(const Job& job, std::span<const coordinator::PlannedUpdate> planned,
                            const model::Model& base, std::size_t members);

/// Leaves out of `packet` what others than `member` merge.
void keep_own(adapter::Packet& packet, const Shards& shards, std::size_t member);
/// Adds what `member` has merged. kFormat for bytes that are no packet of tensors that it merges.
[[nodiscard]] Result<void> add_part(adapter::Packet& packet, ByteSpan bytes, const Shards& shards,
                                    std::size_t member, const adapter::TensorShapes& shapes);

}  // namespace strata::cli

#pragma once
// A client's update between its acceptance and the aggregation, read a tensor at a time: in memory
// for tests and merges of files, in a RoundFile so that a coordinator's memory does not grow with
// its clients. Kept updates may be read from several threads.
#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "adapter/delta_terms.h"
#include "base/result.h"
#include "protocol/messages.h"
#include "protocol/update_codec.h"

namespace strata::coordinator {

/// What is known of an update's tensors without reading them.
using protocol::Outline;
using protocol::TensorOutline;

[[nodiscard]] Outline outline_of(const adapter::DeltaTerms& delta);

/// kIncompatibleUpdate naming client and rule for an update that is bad in itself: no tensor,
/// wrong shapes, values that are not finite, a weight that is not positive.
[[nodiscard]] Result<void> check_update(const protocol::Update& update);
class KeptUpdate;
/// The same of one that is kept, read a tensor at a time; also kIo when that fails.
[[nodiscard]] Result<void> check_update(const KeptUpdate& update);

/// kIncompatibleUpdate naming client, tensor and rule for an update that changes other tensors, or
/// by other shapes or ranks, than planned, or that carries A where the plan has it drawn, or the
/// other way round. Of several planned terms it may have the first ones
/// only: a client that keeps trained factors takes back what was folded from its second round on.
[[nodiscard]] Result<void> check_planned(const protocol::ClientId& client, const Outline& outline,
                                         const Outline& planned);

/// One client's update as it is held.
class KeptUpdate {
 public:
  virtual ~KeptUpdate() = default;
  [[nodiscard]] virtual const protocol::ClientId& client() const = 0;
  [[nodiscard]] virtual double weight() const = 0;
  [[nodiscard]] virtual const Outline& outline() const = 0;
  /// The change of a tensor of the outline, read now or shared. kIo when the disk
  /// fails.
  [[nodiscard]] virtual Result<std::shared_ptr<const adapter::TensorDelta>> read(
      std::string_view tensor) const = 0;
};

using SharedUpdate = std::shared_ptr<const KeptUpdate>;

/// Frobenius norm of everything an update says, over all tensors, its weight left out. kIo when
/// reading fails.
[[nodiscard]] Result<double> update_norm(const KeptUpdate& update);
/// kIncompatibleUpdate naming client and norm when that is above `most`; 0: anything passes.
[[nodiscard]] Result<void> check_norm(const KeptUpdate& update, double most);

/// In memory.
[[nodiscard]] SharedUpdate keep_in_memory(protocol::Update update);

}  // namespace strata::coordinator

#pragma once
// Where a round's accepted updates lie until they are aggregated, a tensor at a time. In memory
// for tests and small merges; on disk so that a coordinator's memory does not grow with its
// clients. Threads: put and clear from one thread at a time; kept updates may be read from several.
#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "adapter/delta_terms.h"
#include "base/result.h"
#include "protocol/messages.h"
#include "protocol/update_codec.h"
#include "sys/disk.h"

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

/// One client's update as its store holds it; readable until the store is cleared or gone.
class KeptUpdate {
 public:
  virtual ~KeptUpdate() = default;
  [[nodiscard]] virtual const protocol::ClientId& client() const = 0;
  [[nodiscard]] virtual double weight() const = 0;
  [[nodiscard]] virtual const Outline& outline() const = 0;
  /// The change of a tensor of the outline, read now or shared with the store. kIo when the disk
  /// fails.
  [[nodiscard]] virtual Result<std::shared_ptr<const adapter::TensorDelta>> read(
      std::string_view tensor) const = 0;
};

using SharedUpdate = std::shared_ptr<const KeptUpdate>;

class UpdateStore {
 public:
  virtual ~UpdateStore() = default;
  /// Keeps the values of a checked update as they are. kDiskFull or kIo when the disk refuses.
  [[nodiscard]] virtual Result<SharedUpdate> put(protocol::Update update) = 0;
  /// The round is over: the place of its updates may be used again.
  virtual void clear() = 0;
};

/// In memory, outside any store.
[[nodiscard]] SharedUpdate keep_in_memory(protocol::Update update);
[[nodiscard]] std::unique_ptr<UpdateStore> make_memory_store();
/// In a scratch file on the disk of `folder`, made with the first update; the folder exists by
/// then.
[[nodiscard]] std::unique_ptr<UpdateStore> make_disk_store(sys::Disk& disk,
                                                           std::filesystem::path folder);

}  // namespace strata::coordinator

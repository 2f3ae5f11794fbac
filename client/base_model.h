#pragma once
// The model that a process's clients train beside, and its way through the rounds. One for all
// clients of a process. It changes only while none of them trains on it.
// Threads: everything in the executor's; training threads read model() while they hold a lease.
#include <functional>
#include <memory>
#include <vector>

#include "model/fold_rule.h"
#include "model/model.h"
#include "protocol/messages.h"
#include "protocol/round_change.h"
#include "sys/disk.h"
#include "tensor/team.h"

namespace strata::client {

class BaseModel {
 public:
  virtual ~BaseModel() = default;
  [[nodiscard]] virtual const model::Model& model() const = 0;
  [[nodiscard]] virtual protocol::Head head() const = 0;
  /// The averaged factors beside it (control methods), or empty.
  [[nodiscard]] virtual const protocol::MeanFactors& mean_factors() const = 0;

  /// Folds what a round came to. `next` is the head it must lead to: kProtocol when it is another;
  /// kFormat for bytes that are no result. Nothing is changed then. Nothing happens when the model
  /// is there already.
  [[nodiscard]] virtual Result<void> fold(const protocol::Head& next, ByteSpan change) = 0;
  /// Takes the changed tensors of a snapshot in the file `path` instead of the rounds up to `head`.
  [[nodiscard]] virtual Result<void> take_snapshot(const protocol::Head& head,
                                                   const std::filesystem::path& path) = 0;
  /// After the last round: the averaged factors go into the base.
  virtual void settle() = 0;
  [[nodiscard]] virtual Sha256 state_hash() = 0;

  /// While any lease is held the model stays as it is.
  void lease() { ++leases_; }
  void release();
  /// Calls `task` now, or as soon as the last lease is given back.
  void when_free(std::function<void()> task);

 private:
  std::size_t leases_ = 0;
  std::vector<std::function<void()>> waiting_;
};

/// A model of this process's own, loaded from disk. `threads` fold into it; they change no bit. By
/// `rule`, if there is one.
[[nodiscard]] std::unique_ptr<BaseModel> own_base(model::Model model, const sys::Disk& disk,
                                                  int threads,
                                                  std::unique_ptr<model::FoldRule> rule = nullptr);

}  // namespace strata::client

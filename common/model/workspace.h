#pragma once
// What one training thread computes with: its team of compute threads, a product engine for each of
// them, and memory that grows to the largest batch seen and is reused, from batch to batch and from
// model to model. A thousand clients trained one after another on one workspace cost its memory
// once.
#include <cstddef>
#include <memory>

#include "sys/profile.h"
#include "tensor/team.h"

namespace strata::model {

/// Lent to one Decoder call at a time. Movable; not thread-safe.
class Workspace {
 public:
  /// threads >= 1: the caller's own and threads - 1 more.
  explicit Workspace(int threads = 1);
  Workspace(Workspace&&) noexcept;
  Workspace& operator=(Workspace&&) noexcept;
  ~Workspace();

  [[nodiscard]] tensor::Team& team();
  /// Records where time goes from now on (null: no longer); borrowed, with a timeline a thread.
  void set_profile(sys::Profile* profile);
  /// Of the calling thread; null without a profile.
  [[nodiscard]] sys::Timeline* timeline();
  /// Of all buffers.
  [[nodiscard]] std::size_t bytes() const;

  struct State;
  [[nodiscard]] State& state() { return *state_; }

 private:
  std::unique_ptr<State> state_;
};

}  // namespace strata::model

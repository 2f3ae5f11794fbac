#pragma once
// What an audit puts into a private client's steps, and sees of them.
#include <cstddef>
#include <span>

#include "adapter/adapter_set.h"

namespace strata::client {

/// Units beside those of the records, drawn, clipped and added as they are.
class PlantedUnits {
 public:
  virtual ~PlantedUnits() = default;
  [[nodiscard]] virtual std::size_t count() const = 0;
  /// Unit `unit`'s gradient in the step that runs: every trained value, in the order of the
  /// adapters' params().
  virtual void gradient(std::size_t unit, std::span<float> out) const = 0;
  /// What the step released, as the optimizer will see it; `clip_norm` is the C it was made with.
  virtual void released(std::span<const adapter::ParamRef> params, double clip_norm) = 0;
};

}  // namespace strata::client

#pragma once
// How a round's packet changes a model when it is not simply added: a rule with a memory, which
// every party that folds the same packets in the same order shares bit for bit without being told.
#include <cstdint>

#include "adapter/packet.h"
#include "model/model.h"
#include "tensor/team.h"

namespace strata::model {

class FoldRule {
 public:
  virtual ~FoldRule() = default;
  /// Folds the packet of `round` (from 1), which was checked against tensor_shapes(). Rounds come
  /// one after the other, from the first. A team changes no bit.
  virtual void fold(Model& model, const adapter::Packet& packet, std::uint32_t round,
                    tensor::Team* team) = 0;
};

}  // namespace strata::model

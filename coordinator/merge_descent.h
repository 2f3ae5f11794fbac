#pragma once
// How what a round merges goes along the gradient of the merged model's loss. With W the model just
// before the merge, in which all heads' earlier rounds are, L its loss, G = dL/dW, and dW what the
// merge adds, the heads' mean change:
//   cosine   -<G, dW> / (||G|| ||dW||): 1 where the heads' mean goes straight downhill
//   descent  -<G, dW>: what L would fall by, were it straight
// over the tensors that adapters change together, and of each. Low ranks and many steps keep the
// cosine well below 1. For people; nothing is decided by it. G is of records as they are: never
// looked at in a private run.
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "adapter/packet.h"
#include "base/result.h"
#include "coordinator/aggregator/aggregator.h"
#include "model/decoder.h"
#include "tensor/team.h"

namespace strata::coordinator {

/// Where a merge stands.
struct MergePoint {
  const model::Model& model;  // before it
  std::uint32_t round = 0;
  std::span<const std::size_t> tensors;  // parameters by which the gradient is wanted
  const Weights& shares;                 // of the clients that are merged; sum 1
};

/// The loss there on some records, and its gradient by those tensors.
struct MergedLoss {
  std::string records_of;  // whose records: "clients" or "held_out"
  std::size_t records = 0;
  double loss = 0.0;
  model::FullGradients gradients;
};

/// Nothing where no records are at hand.
using LossOfMerged = std::function<Result<std::optional<MergedLoss>>(const MergePoint&)>;

struct Descent {
  double gradient_norm = 0.0;
  double update_norm = 0.0;
  double cosine = std::numeric_limits<double>::quiet_NaN();  // while either norm is 0
  double descent = 0.0;                                      // in units of the loss
};

struct MergeDescent {
  std::string records_of;
  std::size_t records = 0;
  double loss = 0.0;
  Descent whole;
  std::map<std::string, Descent> tensors;
};

/// The parameters that the packet changes by factors, or by their product: not those that are
/// trained themselves.
[[nodiscard]] std::vector<std::size_t> adapted_tensors(const model::Model& model,
                                                       const adapter::Packet& packet);

/// `packet` is what is merged, `loss` that of MergePoint::tensors = adapted_tensors().
[[nodiscard]] MergeDescent merge_descent(const model::Model& model, const adapter::Packet& packet,
                                         const MergedLoss& loss, tensor::Team& team);

}  // namespace strata::coordinator

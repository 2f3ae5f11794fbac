#pragma once
// How much noise a private job leaves in its merged change, and how much the same job would with
// other adapter methods: privacy/merged_noise.h over all layers, clients and rounds, with the noise
// of cli/direct_noise.h. Budget, ranks, scales, clients and learning rates stay as they are.
#include <optional>
#include <string>
#include <vector>

#include "cli/job.h"
#include "model/model.h"
#include "privacy/merged_noise.h"
#include "privacy/promise.h"

namespace strata::cli {

struct MethodNoise {
  std::string method;
  privacy::MergedNoise noise;  // of all layers and rounds
};

struct NoisePlan {
  privacy::MergedNoise as_it_is;
  std::vector<MethodNoise> alternatives;  // lora, ffa, seeded-a; every client with the same
  /// seeded-a, when it has at least a twentieth less; `ratio`: noise as it is over that.
  bool recommend_seeded = false;
  double ratio = 1.0;
};

/// kConfig as AdapterSet::make. Clients that are drawn for each round count by the mean over draws.
/// Nothing for parallel heads and A of orthogonal rows, of which the equations do not speak.
[[nodiscard]] Result<std::optional<NoisePlan>> noise_plan(const Job& job,
                                                          const privacy::Promise& promise,
                                                          const model::Model& base);

}  // namespace strata::cli

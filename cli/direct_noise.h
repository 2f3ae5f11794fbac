#pragma once
// The noise of a private run that goes straight into the trained values, by round. A release has
// noise of deviation z C / B in every value (client_local: z C, and B is 1); a plain step moves the
// value by the rate times that, so a round of steps with rates l_i leaves
//   variance (z C / B)^2 sum_i l_i^2        client_local: (z C)^2, once a round
// in it. What the noise of one step does to the gradients of the next is not counted: it depends on
// the records. Values; any thread.
#include <vector>

#include "adapter/adapter_set.h"
#include "cli/job.h"

namespace strata::cli {

struct ValueNoise {
  double a = 0.0;  // variance of a value of A; 0 where A is not trained
  double b = 0.0;  // of B
};

/// Whether the trained values of a private job have just that noise, and B A has it linearly:
/// kUnsupported in plain words for adaptive clipping, for optimizers that do not add gradients up
/// as they are, where A is trained beside B. `file` is named in errors.
[[nodiscard]] Result<void> check_direct_noise(const Job& job, const adapter::AdapterSet& adapters,
                                              const std::string& file);

/// Of each round of the job, for a client with these adapters; `multiplier`: z of the gradients.
/// With momentum mu a step's noise goes on moving the value to the end of the round:
///   sum_i c_i^2,  c_i = l_i + mu c_(i+1)
/// adamw scales what it sees to about 1, so noise alone leaves about sum_i l_i^2. kConfig when a
/// layer has no clip norm, or the schedule is none.
[[nodiscard]] Result<std::vector<ValueNoise>> noise_by_round(const Job& job, double multiplier,
                                                             const adapter::AdapterConfig& config,
                                                             const adapter::AdapterSet& adapters);

}  // namespace strata::cli

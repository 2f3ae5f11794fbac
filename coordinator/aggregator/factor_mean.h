#pragma once
// The control methods fedavg and zero_pad, for registry.cpp and the exactness report.
#include <memory>
#include <span>

#include "coordinator/aggregator/aggregator.h"

namespace strata::coordinator {

[[nodiscard]] std::unique_ptr<Aggregator> make_fedavg(const Weights& planned);
[[nodiscard]] std::unique_ptr<Aggregator> make_zero_pad(const Weights& planned);
[[nodiscard]] Result<void> check_fedavg(std::span<const PlannedUpdate> clients);
[[nodiscard]] Result<void> check_zero_pad(std::span<const PlannedUpdate> clients);

/// sum_k p_k B_k and sum_k p_k A_k of one tensor, smaller ranks padded by zeros; clients that do
/// not change the tensor count as zero, and a client's several terms stand side by side as one
/// pair. Only for low-rank terms.
[[nodiscard]] adapter::LowRank mean_factors(const TensorChanges& changes,
                                            const std::map<std::string, double>& weights);

}  // namespace strata::coordinator

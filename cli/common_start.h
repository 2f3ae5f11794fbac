#pragma once
// What the clients of a client_central run begin their rounds with, as their coordinator works it
// out: from the job's seed and the model's shapes, without any client's word.
#include <map>
#include <span>
#include <string>
#include <vector>

#include "adapter/adapter_set.h"
#include "coordinator/coordinator.h"
#include "model/model.h"

namespace strata::cli {

/// `adapters`: of every client, all of one method. `initial`: adapter.init by module, with which
/// round 1 begins; else empty. Borrows nothing. Asked for a round, kConfig when an adapter does not
/// fit the model.
[[nodiscard]] coordinator::CommonStart common_start(const model::Model& base,
                                                    std::vector<adapter::AdapterConfig> adapters,
                                                    std::map<std::string, adapter::Factors> initial,
                                                    std::uint64_t seed);

}  // namespace strata::cli

#include <array>

#include "config/section.h"
#include "coordinator/aggregator/aggregator.h"
#include "coordinator/aggregator/factor_mean.h"
#include "coordinator/aggregator/stacking.h"

namespace strata::coordinator {
namespace {

Result<void> check_data_parallel(std::span<const PlannedUpdate> clients) {
  for (const auto& client : clients) {
    for (const auto& [name, rank] : client.ranks) {
      if (rank == 0) continue;
      return fail({.code = ErrorCode::kConfig,
                   .what = client.client + " trains an adapter of rank " + std::to_string(rank),
                   .where = "aggregation.method",
                   .rule = "data_parallel averages gradients of all parameters",
                   .remedy = "set adapter.method \"full\", or use method \"flora\""});
    }
  }
  return {};
}

constexpr std::array kAggregators{
    AggregatorEntry{"flora", "exact stacking of any ranks, scales and weights", false, "fresh",
                    make_stacking, false, nullptr},
    AggregatorEntry{"lte", "exact mean of parallel heads, each client with one or several", false,
                    "keep", make_stacking, true, nullptr},
    AggregatorEntry{"data_parallel", "mean gradient of one step, for training from scratch", false,
                    "keep", make_stacking, false, check_data_parallel, true},
    AggregatorEntry{"fedavg", "control: mean of A and mean of B, equal ranks", true, "fresh",
                    make_fedavg, false, check_fedavg},
    AggregatorEntry{"zero_pad", "control: fedavg with smaller ranks padded by zeros", true, "fresh",
                    make_zero_pad, false, check_zero_pad},
};

}  // namespace

std::span<const AggregatorEntry> aggregators() { return kAggregators; }

Result<const AggregatorEntry*> find_aggregator(std::string_view name) {
  std::vector<std::string> names;
  for (const auto& entry : kAggregators) {
    if (entry.name == name) return &entry;
    names.emplace_back(entry.name);
  }
  const auto near = config::nearest(name, names);
  return fail({.code = ErrorCode::kConfig,
               .what = "\"" + printable(name, 60) + "\" is not an aggregation method",
               .where = "aggregation.method",
               .rule = near ? "did you mean \"" + *near + "\"?"
                            : "known: flora lte data_parallel fedavg zero_pad"});
}

}  // namespace strata::coordinator

#include "cli/adapter_merge.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "coordinator/aggregator/aggregator.h"
#include "tensor/linalg.h"

namespace strata::cli {
namespace {

// Clients are summed in the order of their names: numbers with leading zeros keep the order of the
// command line.
std::string client_name(std::size_t index) { return fmt::format("adapter-{:06}", index); }

}  // namespace

Result<adapter::DeltaTerms> merge_adapters(std::span<const WeightedAdapter> adapters) {
  coordinator::UpdateSet set;
  std::map<std::string, double> weights;
  for (std::size_t i = 0; i < adapters.size(); ++i) {
    const std::string name = client_name(i);
    auto added = set.add({.client = name, .delta = exporting::delta_terms(adapters[i].adapter)});
    if (!added) {
      Error error = std::move(added).error();
      error.remedy.clear();  // speaks of clients and rounds
      return fail(std::move(error), "stacking " + adapters[i].folder.string());
    }
    weights.emplace(name, adapters[i].weight);
  }
  adapter::Packet stacked;
  for (const auto& [name, shape] : set.tensors()) {
    auto changes = set.changes(name);
    if (!changes) return fail(std::move(changes).error());
    stacked.tensors.emplace(name, coordinator::stack_tensor(*changes, weights));
  }
  return stacked.terms();
}

double recompress(adapter::DeltaTerms& delta, double tolerance) {
  double worst = 0.0;
  for (auto& [name, change] : delta) {
    auto& term = std::get<adapter::LowRank>(change.terms.front());
    const auto small =
        tensor::recompress({.b = term.b.view(), .a = term.a.view()}, {.relative_error = tolerance});
    if (small.norm > 0.0) worst = std::max(worst, small.error / small.norm);
    if (small.rank() == 0) {
      change.terms.clear();  // no change at all
    } else {
      term = {.b = small.b.narrow(), .a = small.a.narrow()};
    }
  }
  return worst;
}

exporting::PeftOptions merged_options(std::span<const WeightedAdapter> adapters,
                                      std::vector<std::string>& warnings) {
  exporting::PeftOptions out;
  std::set<std::string> targets;
  bool listed = true;
  for (const auto& [folder, weight, adapter] : adapters) {
    const auto& config = adapter.config;
    if (out.base_model.empty()) out.base_model = config.base_model;
    if (!config.base_model.empty() && config.base_model != out.base_model) {
      warnings.push_back(fmt::format(
          "{} is for the base \"{}\", others for \"{}\": stacking only makes sense on one base",
          folder.string(), printable(config.base_model), printable(out.base_model)));
    }
    out.fan_in_fan_out = out.fan_in_fan_out || config.fan_in_fan_out;
    listed = listed && !config.target_modules.empty();
    targets.insert(config.target_modules.begin(), config.target_modules.end());
  }
  if (listed) out.target_modules.assign(targets.begin(), targets.end());
  return out;
}

}  // namespace strata::cli

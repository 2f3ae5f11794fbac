#pragma once
// The loop of all aggregators and of their report: tensors of a set shared out over a team, each
// read from all clients when its turn comes.
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include "coordinator/aggregator/aggregator.h"

namespace strata::coordinator {

/// work(changes) for every tensor of the set; (name, result) in the order of
/// names for any team. kIo when an update cannot be read.
template <class Work>
[[nodiscard]] auto for_each_tensor(const UpdateSet& set, tensor::Team* team, const Work& work)
    -> Result<
        std::vector<std::pair<std::string, std::invoke_result_t<Work, const TensorChanges&>>>> {
  using Value = std::invoke_result_t<Work, const TensorChanges&>;
  std::vector<const std::string*> names;
  for (const auto& [name, shape] : set.tensors()) names.push_back(&name);
  std::vector<std::optional<Result<Value>>> results(names.size());
  tensor::Team alone;
  (team != nullptr ? *team : alone).for_tasks(names.size(), [&](std::size_t i, int) {
    auto changes = set.changes(*names[i]);
    if (changes) {
      results[i].emplace(work(*changes));
    } else {
      results[i].emplace(fail(std::move(changes).error()));
    }
  });
  std::vector<std::pair<std::string, Value>> out;
  for (std::size_t i = 0; i < names.size(); ++i) {
    auto& result = *results[i];
    if (!result) return fail(std::move(result).error());
    out.emplace_back(*names[i], std::move(*result));
  }
  return out;
}

}  // namespace strata::coordinator

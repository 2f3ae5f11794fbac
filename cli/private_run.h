#pragma once
// The promise of a whole run, for people and programs, and the numbers that a private client trains
// with.
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "cli/job.h"
#include "client/private_gradient.h"
#include "privacy/promise.h"

namespace strata::cli {

/// What the job promises; nothing when its mode is "none". `file` is named in errors.
[[nodiscard]] Result<std::optional<privacy::Promise>> promise_of(const Job& job,
                                                                 const std::string& file);

/// The mechanism of a job whose mode is example_dpsgd, for a client that trains `values` numbers.
[[nodiscard]] Result<client::DpSgdConfig> dp_sgd_of(const Job& job, const privacy::Promise& promise,
                                                    std::size_t values);

/// What a run promises, for people and programs: unit, adjacency, adversary, epsilon, delta,
/// accountant, and what they follow from (docs/formats/run_files.md).
[[nodiscard]] nlohmann::ordered_json statement_of(const Job& job,
                                                  const std::optional<privacy::Promise>& promise);
/// The same in one line.
[[nodiscard]] std::string privacy_line(const std::optional<privacy::Promise>& promise);

/// What may be told of single clients to whoever gets what a run made: nothing where they are what
/// is hidden.
[[nodiscard]] inline bool tells_of_clients(const Job& job) {
  return job.privacy.mode != "client_central";
}

/// What may be told of a private client's records: nothing that depends on them.
[[nodiscard]] inline bool tells_of_records(const Job& job) { return !job.privacy.on(); }

}  // namespace strata::cli

#pragma once
// A finished run for people (tables) and for programs (JSON).
#include <string>

#include "cli/federation.h"
#include "cli/verb.h"

namespace strata::cli {

[[nodiscard]] VerbOutput run_report(const RunSummary& summary, const Job& job,
                                    const std::string& directory);

}  // namespace strata::cli

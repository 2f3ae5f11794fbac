#pragma once
// What a private client promised and did in a run, signed with the key of its certificate:
// docs/formats/run_files.md, privacy.signed.json.
#include <filesystem>
#include <nlohmann/json.hpp>

#include "certs/node.h"
#include "cli/client_run.h"
#include "cli/job.h"
#include "privacy/promise.h"
#include "sys/clock.h"
#include "sys/disk.h"

namespace strata::cli {

/// Writes `file`: the statement of the job with who signed it, when, and what the client took part
/// in. Errors of the disk and of the key.
[[nodiscard]] Result<void> write_signed_statement(sys::Disk& disk, const sys::Clock& clock,
                                                  const std::filesystem::path& file,
                                                  const certs::NodeFiles& key, const Job& job,
                                                  const privacy::Promise& promise,
                                                  const ClientOutcome& outcome);

struct CheckedStatement {
  certs::Identity signer;
  nlohmann::ordered_json statement;
};

/// kAuth when it was changed, or its signer's certificate is not of `ca`, was not valid then, or is
/// on the list `crl` (a file, or empty: nothing is looked up), which must be current by `clock`.
[[nodiscard]] Result<CheckedStatement> read_signed_statement(const sys::Disk& disk,
                                                             const sys::Clock& clock,
                                                             const std::filesystem::path& file,
                                                             const std::filesystem::path& ca,
                                                             const std::filesystem::path& crl = {});

}  // namespace strata::cli

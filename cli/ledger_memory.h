#pragma once
// What a coordinator remembers of its clients' ledgers, in a file beside its run folders, so that a
// client whose ledger was put back hears of it in the next run, too (docs/formats/ledger.md).
#include <filesystem>
#include <memory>

#include "coordinator/server.h"
#include "sys/disk.h"

namespace strata::cli {

/// Reads the file if it is there. kDamaged when it is not one. `disk` outlives it.
[[nodiscard]] Result<std::unique_ptr<coordinator::LedgerMemory>> open_ledger_memory(
    sys::Disk& disk, const std::filesystem::path& file);

}  // namespace strata::cli

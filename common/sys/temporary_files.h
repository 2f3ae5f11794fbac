#pragma once
// Names of files that are being written: what write_atomic() of a process that was killed leaves
// behind, and how the next process gets rid of it.
#include <filesystem>
#include <string_view>

#include "base/result.h"
#include "sys/disk.h"

namespace strata::sys {

/// Under which write_atomic() of the process with that number writes `path` before it is whole.
[[nodiscard]] std::filesystem::path temporary_of(const std::filesystem::path& path, long process);

/// Removes what processes that were killed in write_atomic() left in a folder; `of` names the file
/// that it was to become, empty: whichever. For who holds the folder's lock: the files of a process
/// at work look the same. An absent folder is success.
[[nodiscard]] Result<void> remove_temporaries(Disk& disk, const std::filesystem::path& folder,
                                              std::string_view of = {});

}  // namespace strata::sys

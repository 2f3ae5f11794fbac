#pragma once
// Which file systems a ledger may lie on. It stands on locks that hold between all processes that
// use it, on flushes that last, and on a folder that is still there tomorrow; what is shared by a
// network, layered over an image or held in memory promises less.
#include <cstdint>
#include <filesystem>
#include <functional>

#include "base/result.h"

namespace strata::ledger {

/// The kind of the file system that holds a folder, as statfs(2) numbers them.
using FilesystemOf = std::function<Result<std::uint64_t>(const std::filesystem::path& folder)>;

/// Asks the operating system.
[[nodiscard]] Result<std::uint64_t> posix_filesystem(const std::filesystem::path& folder);

/// kUnsupported naming the kind when it is one of those.
[[nodiscard]] Result<void> check_filesystem(const std::filesystem::path& folder,
                                            const FilesystemOf& filesystem_of);

}  // namespace strata::ledger

#pragma once
// Which file systems a ledger may lie on. It stands on locks that hold between all processes that
// use it, on flushes that last, and on a folder that is still there tomorrow; what is shared by a
// network, layered over an image or held in memory promises less. And who may read the file of its
// key.
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

/// What lstat(2) says of a file.
struct FileAccess {
  bool regular = false;     // and no link
  std::uint32_t owner = 0;  // number of its user
  std::uint32_t self = 0;   // of the one who runs the program
  std::uint32_t mode = 0;   // the permission bits
};
using AccessOf = std::function<Result<FileAccess>(const std::filesystem::path& file)>;

/// Asks the operating system; kFileMissing when there is no such file.
[[nodiscard]] Result<FileAccess> posix_access(const std::filesystem::path& file);

/// kAuth unless it is a plain file of the user who runs the program, closed to everybody else; says
/// which command mends it.
[[nodiscard]] Result<void> check_secret(const std::filesystem::path& file,
                                        const AccessOf& access_of);

}  // namespace strata::ledger

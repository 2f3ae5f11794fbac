#pragma once
// A folder that appears whole or not at all: filled under a temporary name beside its place, then
// renamed into it.
#include <filesystem>
#include <functional>

#include "base/result.h"
#include "sys/disk.h"

namespace strata::formats {

/// Calls `fill` with a new empty folder and puts it at `target`. An existing target is kFileExists
/// unless `force`, which replaces it only after `fill` succeeded. On any failure nothing is left
/// behind and an existing target is as it was.
[[nodiscard]] Result<void> write_folder(
    sys::Disk& disk, const std::filesystem::path& target, bool force,
    const std::function<Result<void>(const std::filesystem::path&)>& fill);

/// kFileExists with the remedy --force unless `target` is absent (or an empty folder) or `force` is
/// given.
[[nodiscard]] Result<void> check_free(const sys::Disk& disk, const std::filesystem::path& target,
                                      bool force);

}  // namespace strata::formats

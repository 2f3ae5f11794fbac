#include "formats/atomic_folder.h"

namespace strata::formats {

Result<void> check_free(const sys::Disk& disk, const std::filesystem::path& target, bool force) {
  if (force || !disk.exists(target)) return {};
  if (disk.is_directory(target)) {
    const auto names = disk.list(target);
    if (names && names->empty()) return {};
  }
  return fail({.code = ErrorCode::kFileExists,
               .what = "exists already",
               .where = target.string(),
               .rule = "finished work is never overwritten by itself",
               .remedy = "choose another output or give --force"});
}

Result<void> write_folder(sys::Disk& disk, const std::filesystem::path& target, bool force,
                          const std::function<Result<void>(const std::filesystem::path&)>& fill) {
  if (auto free = check_free(disk, target, force); !free) return free;
  auto place = target.lexically_normal();
  if (!place.has_filename()) place = place.parent_path();  // "out/" names the folder out
  const auto sibling = [&](std::string_view ending) {
    return (place.has_parent_path() ? place.parent_path() : std::filesystem::path(".")) /
           ("." + place.filename().string() + std::string(ending));
  };
  const auto fresh = sibling(".new");
  const auto old = sibling(".old");
  const auto clean = [&](Result<void> outcome) {
    (void)disk.remove_all(fresh);
    return outcome;
  };
  if (auto gone = disk.remove_all(fresh); !gone) return gone;
  if (auto made = disk.create_directories(fresh); !made) return clean(std::move(made));
  if (auto filled = fill(fresh); !filled) return clean(std::move(filled));
  const bool replaces = disk.exists(place);
  if (replaces) {
    if (auto gone = disk.remove_all(old); !gone) return clean(std::move(gone));
    if (auto moved = disk.rename(place, old); !moved) return clean(std::move(moved));
  }
  if (auto moved = disk.rename(fresh, place); !moved) {
    if (replaces) (void)disk.rename(old, place);
    return clean(std::move(moved));
  }
  if (replaces) return disk.remove_all(old);
  return {};
}

}  // namespace strata::formats

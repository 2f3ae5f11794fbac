#include "sys/temporary_files.h"

#include <string>

namespace strata::sys {
namespace {

constexpr std::string_view kEnding = ".tmp.";  // and the number of the process

bool is_temporary(std::string_view name, std::string_view of) {
  const auto at = name.rfind(kEnding);
  if (at == std::string_view::npos || at == 0) return false;
  const auto number = name.substr(at + kEnding.size());
  return !number.empty() && number.find_first_not_of("0123456789") == std::string_view::npos &&
         (of.empty() || name.substr(0, at) == of);
}

}  // namespace

std::filesystem::path temporary_of(const std::filesystem::path& path, long process) {
  return path.string() + std::string(kEnding) + std::to_string(process);
}

Result<void> remove_temporaries(Disk& disk, const std::filesystem::path& folder,
                                std::string_view of) {
  if (!disk.is_directory(folder)) return {};
  const auto names = disk.list(folder);
  if (!names) return fail(names.error());
  for (const auto& name : *names) {
    if (!is_temporary(name, of)) continue;
    if (auto gone = disk.remove_all(folder / name); !gone) return gone;
  }
  return {};
}

}  // namespace strata::sys

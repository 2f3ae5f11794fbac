#include "privacy/ledger/filesystem.h"

#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <string>
#include <string_view>
#include <system_error>

namespace strata::ledger {
namespace {

struct Kind {
  std::uint64_t number;
  std::string_view name;
  std::string_view why;
};

constexpr std::string_view kNetwork = "locks and flushes over a network cannot be relied on";
constexpr std::string_view kLayer = "what a container writes there goes with it";
constexpr std::string_view kMemory = "it is gone when the machine stops";

// Numbers of statfs(2) and linux/magic.h.
constexpr std::array kRefused{
    Kind{0x6969, "nfs", kNetwork},       Kind{0x517b, "smb", kNetwork},
    Kind{0xff534d42, "cifs", kNetwork},  Kind{0xfe534d42, "smb2", kNetwork},
    Kind{0x01021997, "9p", kNetwork},    Kind{0x65735546, "fuse", kNetwork},
    Kind{0x5346414f, "afs", kNetwork},   Kind{0x00c36400, "ceph", kNetwork},
    Kind{0x73757245, "coda", kNetwork},  Kind{0x0bd00bd0, "lustre", kNetwork},
    Kind{0x47504653, "gpfs", kNetwork},  Kind{0x19830326, "beegfs", kNetwork},
    Kind{0x01161970, "gfs2", kNetwork},  Kind{0x7461636f, "ocfs2", kNetwork},
    Kind{0x794c7630, "overlay", kLayer}, Kind{0x61756673, "aufs", kLayer},
    Kind{0x01021994, "tmpfs", kMemory},  Kind{0x858458f6, "ramfs", kMemory},
};

}  // namespace

Result<std::uint64_t> posix_filesystem(const std::filesystem::path& folder) {
  struct statfs info {};
  if (::statfs(folder.c_str(), &info) != 0) {
    return fail({.code = ErrorCode::kIo,
                 .what = "asking for the kind of file system failed: " +
                         std::generic_category().message(errno),
                 .where = folder.string()});
  }
  // The kernel's number has 32 bits, which a signed field may have stretched.
  return static_cast<std::uint64_t>(info.f_type) & 0xffffffffu;
}

Result<void> check_filesystem(const std::filesystem::path& folder,
                              const FilesystemOf& filesystem_of) {
  const auto number = filesystem_of(folder);
  if (!number) return fail(number.error());
  for (const Kind& kind : kRefused) {
    if (kind.number != *number) continue;
    return fail({.code = ErrorCode::kUnsupported,
                 .what = "lies on " + std::string(kind.name),
                 .where = folder.string(),
                 .rule = "no privacy ledger is kept there: " + std::string(kind.why),
                 .remedy = "keep it on a local disk; a container needs a volume for it"});
  }
  return {};
}

Result<FileAccess> posix_access(const std::filesystem::path& file) {
  struct stat info {};
  if (::lstat(file.c_str(), &info) != 0) {
    return fail({.code = errno == ENOENT ? ErrorCode::kFileMissing : ErrorCode::kIo,
                 .what = "asking for its owner failed: " + std::generic_category().message(errno),
                 .where = file.string()});
  }
  return FileAccess{.regular = S_ISREG(info.st_mode),
                    .owner = info.st_uid,
                    .self = ::geteuid(),
                    .mode = info.st_mode & 07777u};
}

Result<void> check_secret(const std::filesystem::path& file, const AccessOf& access_of) {
  const auto found = access_of(file);
  if (!found) return fail(found.error());
  const auto refuse = [&](std::string what, std::string rule, std::string remedy) {
    return fail({.code = ErrorCode::kAuth,
                 .what = std::move(what),
                 .where = file.string(),
                 .rule = std::move(rule),
                 .remedy = std::move(remedy)});
  };
  if (!found->regular)
    return refuse("is no plain file", "the key that rows are named with is a file of its own",
                  "put the file itself there");
  if (found->owner != found->self)
    return refuse(
        "belongs to user " + std::to_string(found->owner),
        "the key that rows are named with belongs to the user who runs the program, here " +
            std::to_string(found->self),
        "chown it, or run as its owner");
  if ((found->mode & 077u) == 0) return {};
  char mode[16];
  std::snprintf(mode, sizeof mode, "%04o", static_cast<unsigned>(found->mode));
  return refuse(std::string("has mode ") + mode,
                "who reads the key that rows are named with can tell which rows are in the data",
                "run: chmod 600 " + file.string());
}

}  // namespace strata::ledger

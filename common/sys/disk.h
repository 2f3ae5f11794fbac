#pragma once
// The file system as an interface, so that a whole federation can run against a simulated or faulty
// disk. Threads: implementations may be called from several threads as long as no two calls touch
// the same path.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace strata::sys {

/// The bytes of a file, read-only, valid as long as the object lives. For a real disk the pages are
/// memory-mapped and shared between processes.
class MappedFile {
 public:
  virtual ~MappedFile() = default;
  [[nodiscard]] virtual std::span<const std::byte> bytes() const = 0;
  /// A part of bytes() is not needed for now: its memory may go to others. Reading it again is
  /// allowed and gives the same bytes.
  virtual void release(std::span<const std::byte>) const {}
};

/// Receives the bytes of a file being written; returns kDiskFull or kIo when the disk refuses.
class FileWriter {
 public:
  virtual ~FileWriter() = default;
  [[nodiscard]] virtual Result<void> write(std::span<const std::byte> bytes) = 0;
};

/// A named file that is read and written anywhere: journals, updates that arrive piece by piece.
/// What was written is sure to outlive a fall of the machine only once sync() has said so. Threads:
/// reads of what was written before may run side by side; writes come from one thread.
class RandomFile {
 public:
  virtual ~RandomFile() = default;
  /// kDiskFull or kIo when the disk refuses.
  [[nodiscard]] virtual Result<void> write(std::uint64_t offset,
                                           std::span<const std::byte> bytes) = 0;
  /// Fills `into` with bytes written before; kIo when they are not there.
  [[nodiscard]] virtual Result<void> read(std::uint64_t offset,
                                          std::span<std::byte> into) const = 0;
  [[nodiscard]] virtual Result<std::uint64_t> size() const = 0;
  /// Everything written so far is on the disk. After a failure nothing written since the last
  /// success can be relied on, and another call would not help: the file must be read again.
  [[nodiscard]] virtual Result<void> sync() = 0;
  /// Cuts the file, or makes it longer by zeros.
  [[nodiscard]] virtual Result<void> resize(std::uint64_t bytes) = 0;
};

/// Held by one process at a time; let go with the object or the process.
class FileLock {
 public:
  virtual ~FileLock() = default;
};

/// What a finished write outlives.
enum class Durability {
  kMachine,  // a fall of the machine: flushed to the disk
  kProcess,  // the end of this process, however sudden: with the operating system
};

class Disk {
 public:
  using Path = std::filesystem::path;
  virtual ~Disk() = default;

  [[nodiscard]] virtual bool exists(const Path& path) const = 0;
  [[nodiscard]] virtual bool is_directory(const Path& path) const = 0;
  /// Names (not paths) in a folder, sorted. kFileMissing when it does not exist.
  [[nodiscard]] virtual Result<std::vector<std::string>> list(const Path& folder) const = 0;
  [[nodiscard]] virtual Result<std::string> read_text(const Path& path) const = 0;
  [[nodiscard]] virtual Result<std::shared_ptr<const MappedFile>> map(const Path& path) const = 0;

  [[nodiscard]] virtual Result<void> create_directories(const Path& folder) = 0;
  /// The same; the last folder, when it is made now, is for its owner only.
  [[nodiscard]] virtual Result<void> create_private_directory(const Path& folder) = 0;
  /// Writes a whole file or nothing: temporary name in the same folder, fsync, rename, fsync of the
  /// folder (both only for kMachine). On any failure the temporary is removed and an earlier file
  /// of that name is untouched.
  [[nodiscard]] virtual Result<void> write_atomic(
      const Path& path, const std::function<Result<void>(FileWriter&)>& produce,
      Durability durability) = 0;
  [[nodiscard]] Result<void> write_atomic(const Path& path,
                                          const std::function<Result<void>(FileWriter&)>& produce) {
    return write_atomic(path, produce, Durability::kMachine);
  }
  [[nodiscard]] Result<void> write_atomic(const Path& path, std::string_view text);
  /// A file to read and write anywhere, made when it is absent; for kMachine its name is sure to
  /// last.
  [[nodiscard]] virtual Result<std::unique_ptr<RandomFile>> open(const Path& path,
                                                                 Durability durability) = 0;
  [[nodiscard]] Result<std::unique_ptr<RandomFile>> open(const Path& path) {
    return open(path, Durability::kMachine);
  }
  /// Takes the lock `path`, a file made when absent, or says who has it (kLocked).
  [[nodiscard]] virtual Result<std::unique_ptr<FileLock>> lock(const Path& path) = 0;
  /// Appends one piece and flushes it to the operating system (metrics, logs).
  [[nodiscard]] virtual Result<void> append(const Path& path, std::string_view text) = 0;
  [[nodiscard]] virtual Result<void> rename(const Path& from, const Path& to) = 0;
  /// The names in a folder are as sure to last as its files: for what an earlier process, killed at
  /// the wrong time, may have left.
  [[nodiscard]] virtual Result<void> sync_folder(const Path& folder) = 0;
  /// Removes a file or a whole folder; absent is success.
  [[nodiscard]] virtual Result<void> remove_all(const Path& path) = 0;
};

/// The machine's own file system.
[[nodiscard]] std::unique_ptr<Disk> make_posix_disk();

}  // namespace strata::sys

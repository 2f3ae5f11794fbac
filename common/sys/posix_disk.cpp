#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <system_error>

#include "sys/disk.h"
#include "sys/temporary_files.h"

namespace strata::sys {

Result<void> Disk::write_atomic(const Path& path, std::string_view text) {
  return write_atomic(path, [&](FileWriter& out) {
    return out.write(std::as_bytes(std::span(text.data(), text.size())));
  });
}

namespace {

Error os_error(const std::filesystem::path& path, std::string_view action, int number) {
  Error error{.code = ErrorCode::kIo,
              .what = std::string(action) + " failed: " + std::generic_category().message(number),
              .where = path.string()};
  if (number == ENOSPC || number == EDQUOT) {
    error.code = ErrorCode::kDiskFull;
    error.remedy = "free some space or choose another output directory";
  } else if (number == ENOENT || number == ENOTDIR) {
    error.code = ErrorCode::kFileMissing;
    error.what = "no such file or directory";
  } else if (number == EACCES || number == EPERM || number == EROFS) {
    error.remedy = "check the permissions of the file and of its folder";
  }
  return error;
}

class FileDescriptor {
 public:
  explicit FileDescriptor(int number) : number_(number) {}
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor() {
    if (number_ >= 0) ::close(number_);
  }
  int get() const { return number_; }
  bool ok() const { return number_ >= 0; }
  /// Closes and reports: on some file systems a full disk is only said here.
  bool close_now() { return ::close(std::exchange(number_, -1)) == 0; }

 private:
  int number_;
};

class PosixMapping final : public MappedFile {
 public:
  PosixMapping(void* data, std::size_t size) : data_(data), size_(size) {}
  PosixMapping(const PosixMapping&) = delete;
  PosixMapping& operator=(const PosixMapping&) = delete;
  ~PosixMapping() override {
    if (size_ > 0) ::munmap(data_, size_);
  }
  std::span<const std::byte> bytes() const override {
    return {static_cast<const std::byte*>(data_), size_};
  }
  void release(std::span<const std::byte> part) const override {
    // Whole pages only: neighbours may still be wanted.
    const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    const auto first = (reinterpret_cast<std::uintptr_t>(part.data()) + page - 1) / page * page;
    const auto last = reinterpret_cast<std::uintptr_t>(part.data() + part.size()) / page * page;
    // NOLINTNEXTLINE(performance-no-int-to-ptr): an address, rounded to whole pages
    if (first < last) ::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
  }

 private:
  void* data_;
  std::size_t size_;
};

class PosixWriter final : public FileWriter {
 public:
  PosixWriter(const std::filesystem::path& path, int number) : path_(path), number_(number) {}
  Result<void> write(std::span<const std::byte> bytes) override {
    while (!bytes.empty()) {
      const ssize_t n = ::write(number_, bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return fail(os_error(path_, "writing", errno));
      bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
    return {};
  }

 private:
  const std::filesystem::path& path_;
  int number_;
};

class PosixRandomFile final : public RandomFile {
 public:
  PosixRandomFile(std::filesystem::path place, int number)
      : place_(std::move(place)), fd_(number) {}
  Result<void> write(std::uint64_t offset, std::span<const std::byte> bytes) override {
    while (!bytes.empty()) {
      const ssize_t n = ::pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return fail(os_error(place_, "writing", errno));
      bytes = bytes.subspan(static_cast<std::size_t>(n));
      offset += static_cast<std::uint64_t>(n);
    }
    return {};
  }
  Result<void> read(std::uint64_t offset, std::span<std::byte> into) const override {
    while (!into.empty()) {
      const ssize_t n = ::pread(fd_.get(), into.data(), into.size(), static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return fail(os_error(place_, "reading", errno));
      if (n == 0) {
        return fail({.code = ErrorCode::kIo,
                     .what = "ends before byte " + std::to_string(offset),
                     .where = place_.string()});
      }
      into = into.subspan(static_cast<std::size_t>(n));
      offset += static_cast<std::uint64_t>(n);
    }
    return {};
  }

  Result<std::uint64_t> size() const override {
    struct stat info {};
    if (::fstat(fd_.get(), &info) != 0) return fail(os_error(place_, "reading the size", errno));
    return static_cast<std::uint64_t>(info.st_size);
  }
  Result<void> sync() override {
    if (::fdatasync(fd_.get()) != 0) return fail(os_error(place_, "flushing to the disk", errno));
    return {};
  }
  Result<void> resize(std::uint64_t bytes) override {
    if (::ftruncate(fd_.get(), static_cast<off_t>(bytes)) != 0)
      return fail(os_error(place_, "changing the size", errno));
    return {};
  }

 private:
  std::filesystem::path place_;
  FileDescriptor fd_;
};

class PosixLock final : public FileLock {
 public:
  explicit PosixLock(int number) : fd_(number) {}

 private:
  FileDescriptor fd_;
};

Result<void> sync_one(const std::filesystem::path& folder) {
  const FileDescriptor fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.ok() || ::fsync(fd.get()) != 0)
    return fail(os_error(folder, "syncing the folder", errno));
  return {};
}

Result<void> sync_folder_of(const std::filesystem::path& file) {
  return sync_one(file.has_parent_path() ? file.parent_path() : std::filesystem::path("."));
}

class PosixDisk final : public Disk {
 public:
  bool exists(const Path& path) const override {
    std::error_code ignored;
    return std::filesystem::exists(path, ignored);
  }
  bool is_directory(const Path& path) const override {
    std::error_code ignored;
    return std::filesystem::is_directory(path, ignored);
  }

  Result<std::vector<std::string>> list(const Path& folder) const override {
    std::error_code code;
    std::filesystem::directory_iterator entries(folder, code);
    if (code) return fail(os_error(folder, "listing the folder", code.value()));
    std::vector<std::string> names;
    for (const auto& entry : entries) names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }

  Result<std::string> read_text(const Path& path) const override {
    auto mapped = map(path);
    if (!mapped) return fail(std::move(mapped).error());
    const auto bytes = (*mapped)->bytes();
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }

  Result<std::shared_ptr<const MappedFile>> map(const Path& path) const override {
    const FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.ok()) return fail(os_error(path, "opening", errno));
    struct stat info {};
    if (::fstat(fd.get(), &info) != 0) return fail(os_error(path, "reading the size", errno));
    if (!S_ISREG(info.st_mode)) {
      return fail(
          {.code = ErrorCode::kIo, .what = "is not a regular file", .where = path.string()});
    }
    const auto size = static_cast<std::size_t>(info.st_size);
    if (size == 0) return std::make_shared<const PosixMapping>(nullptr, 0);
    void* data = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd.get(), 0);
    if (data == MAP_FAILED) return fail(os_error(path, "mapping", errno));
    return std::make_shared<const PosixMapping>(data, size);
  }

  Result<void> create_directories(const Path& folder) override {
    std::error_code code;
    std::filesystem::create_directories(folder, code);
    if (code) return fail(os_error(folder, "creating the folder", code.value()));
    return {};
  }

  Result<void> create_private_directory(const Path& folder) override {
    if (folder.has_parent_path()) {
      if (auto made = create_directories(folder.parent_path()); !made) return made;
    }
    if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
      return fail(os_error(folder, "creating the folder", errno));
    return {};
  }

  Result<void> write_atomic(const Path& path,
                            const std::function<Result<void>(FileWriter&)>& produce,
                            Durability durability) override {
    const Path temporary = temporary_of(path, ::getpid());
    auto written = write_temporary(temporary, path, produce, durability);
    if (written && ::rename(temporary.c_str(), path.c_str()) != 0) {
      written = fail(os_error(path, "renaming into place", errno));
    }
    if (!written) {
      ::unlink(temporary.c_str());
      return written;
    }
    return durability == Durability::kMachine ? sync_folder_of(path) : Result<void>{};
  }

  Result<void> append(const Path& path, std::string_view text) override {
    FileDescriptor fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
    if (!fd.ok()) return fail(os_error(path, "opening for append", errno));
    PosixWriter writer(path, fd.get());
    auto written = writer.write(std::as_bytes(std::span(text.data(), text.size())));
    if (written && !fd.close_now()) return fail(os_error(path, "closing", errno));
    return written;
  }

  Result<void> rename(const Path& from, const Path& to) override {
    if (::rename(from.c_str(), to.c_str()) != 0)
      return fail(os_error(to, "renaming into place", errno));
    return sync_folder_of(to);
  }

  using Disk::open;
  Result<std::unique_ptr<RandomFile>> open(const Path& path, Durability durability) override {
    constexpr int kFlags = O_RDWR | O_CLOEXEC | O_NOFOLLOW;
    const int fd = ::open(path.c_str(), kFlags | O_CREAT, 0600);
    if (fd < 0) return fail(os_error(path, "opening", errno));
    auto file = std::make_unique<PosixRandomFile>(path, fd);
    // Also of a file that was there: whoever made it may have been killed before this.
    if (durability == Durability::kMachine) {
      if (auto synced = sync_folder_of(path); !synced) return fail(std::move(synced).error());
    }
    return file;
  }

  Result<std::unique_ptr<FileLock>> lock(const Path& path) override {
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return fail(os_error(path, "opening the lock", errno));
    auto held = std::make_unique<PosixLock>(fd);
    std::array<char, 128> text{};
    if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
      if (errno != EWOULDBLOCK) return fail(os_error(path, "locking", errno));
      const ssize_t n = ::pread(fd, text.data(), text.size(), 0);
      return fail(
          {.code = ErrorCode::kLocked,
           .what = "is held by " + (n > 0 ? printable({text.data(), static_cast<std::size_t>(n)})
                                          : std::string("another process")),
           .where = path.string(),
           .rule = "one process at a time works here"});
    }
    std::array<char, 65> host{};
    ::gethostname(host.data(), host.size() - 1);
    const std::string owner =
        "process " + std::to_string(::getpid()) + " on host " + std::string(host.data());
    // For people only: a lock without a name still holds.
    if (::ftruncate(fd, 0) != 0 || ::pwrite(fd, owner.data(), owner.size(), 0) < 0) errno = 0;
    return held;
  }

  Result<void> sync_folder(const Path& folder) override { return sync_one(folder); }

  Result<void> remove_all(const Path& path) override {
    std::error_code code;
    std::filesystem::remove_all(path, code);
    if (code) return fail(os_error(path, "removing", code.value()));
    return {};
  }

 private:
  // Errors name the file that was wanted, `path`; the temporary is gone when they are read.
  static Result<void> write_temporary(const Path& temporary, const Path& path,
                                      const std::function<Result<void>(FileWriter&)>& produce,
                                      Durability durability) {
    FileDescriptor fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (!fd.ok()) return fail(os_error(path, "creating", errno));
    PosixWriter writer(path, fd.get());
    auto produced = produce(writer);
    if (!produced) return produced;
    if (durability == Durability::kMachine && ::fsync(fd.get()) != 0)
      return fail(os_error(path, "flushing to the disk", errno));
    if (!fd.close_now()) return fail(os_error(path, "closing", errno));
    return {};
  }
};

}  // namespace

std::unique_ptr<Disk> make_posix_disk() { return std::make_unique<PosixDisk>(); }

}  // namespace strata::sys

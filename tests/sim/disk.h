#pragma once
// A disk in memory that forgets: what was not flushed may be lost, whole or from some byte on, when
// its machine falls; names of files too. It can be full, fail, and end the process at any call.
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "sys/disk.h"
#include "sys/random.h"

namespace strata::sim {

class Disk final : public sys::Disk {
 public:
  explicit Disk(sys::Stream draw) : draw_(draw) {}

  /// Called before every call that changes something, with what it is; may throw Crash.
  std::function<void(const std::string& what)> before_change;
  bool full = false;         // writes give kDiskFull
  bool broken = false;       // writes and flushes give kIo
  double flush_fails = 0.0;  // chance that a flush alone gives kIo or kDiskFull
  bool lies = false;         // flushes say yes and do nothing
  double slow = 0.0;         // seconds that a flush takes, drawn up to twice this
  /// Called for every flush of a slow disk, with how long it took.
  std::function<void(double seconds)> took;

  /// The machine falls and comes back.
  void fall();
  /// The process that used it is gone: its locks are free, and what failed flushes left behind may
  /// be gone too.
  void unlock();
  /// Flips a bit of the file, as ageing does; false when it is not there or empty.
  bool rot(const Path& path);
  [[nodiscard]] std::vector<std::string> all_files() const;
  /// What of a file comes back after a fall in any case; empty: nothing.
  [[nodiscard]] std::string lasting(const Path& path) const;
  /// Somebody puts a copy there, for good.
  void put(const Path& path, const std::string& text);

  bool exists(const Path& path) const override;
  bool is_directory(const Path& path) const override;
  Result<std::vector<std::string>> list(const Path& folder) const override;
  Result<std::string> read_text(const Path& path) const override;
  Result<std::shared_ptr<const sys::MappedFile>> map(const Path& path) const override;
  Result<void> create_directories(const Path& folder) override;
  Result<void> create_private_directory(const Path& folder) override;
  using sys::Disk::write_atomic;
  Result<void> write_atomic(const Path& path,
                            const std::function<Result<void>(sys::FileWriter&)>& produce,
                            sys::Durability durability) override;
  using sys::Disk::open;
  Result<std::unique_ptr<sys::RandomFile>> open(const Path& path,
                                                sys::Durability durability) override;
  Result<std::unique_ptr<sys::FileLock>> lock(const Path& path) override;
  Result<void> append(const Path& path, std::string_view text) override;
  Result<void> rename(const Path& from, const Path& to) override;
  Result<void> sync_folder(const Path& folder) override;
  Result<void> remove_all(const Path& path) override;

  struct File {
    std::string now;        // as processes see it
    std::string synced;     // as it comes back after a fall, at least
    bool doubtful = false;  // a flush failed: what was not flushed before may never be
  };
  [[nodiscard]] Result<void> change(const std::string& what, const Path& path) const;
  [[nodiscard]] Result<void> flush(File& file, const Path& path);

 private:
  using Names = std::map<std::string, std::shared_ptr<File>>;
  void take_time();
  [[nodiscard]] Result<void> write_temporary(
      const Path& temporary, const Path& path,
      const std::function<Result<void>(sys::FileWriter&)>& produce, sys::Durability durability);

  sys::Stream draw_;
  long process_ = 1;  // counts those that used it
  Names names_, synced_;
  std::set<std::string> folders_;
  std::shared_ptr<std::set<std::string>> locks_ = std::make_shared<std::set<std::string>>();
};

}  // namespace strata::sim

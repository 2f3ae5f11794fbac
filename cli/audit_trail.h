#pragma once
// What a coordinator can show to whoever asks later: who came and went, who was not let in and why,
// what was rejected, which model each round came to. Each record is chained to the one before it by
// its hash (docs/formats/audit.md) and on the disk before the coordinator goes on (of who was not
// let in: with the next record): what was taken out or changed afterwards is found, and whoever
// noted the last hash also finds what was cut off. While the disk is full, records wait.
// Holds no records, updates or losses. Threads: on() may be called from several at once.
#include <deque>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/hash.h"
#include "journal/journal.h"
#include "observe/observer.h"
#include "sys/clock.h"
#include "sys/disk.h"

namespace strata::cli {

inline constexpr std::string_view kAuditFile = "audit.log";  // in a run folder

class AuditTrail final : public observe::Observer {
 public:
  /// `failed` is told once when records cannot be kept any more, and of each full disk.
  AuditTrail(sys::Disk& disk, const sys::Clock& clock, std::filesystem::path path,
             std::function<void(const Error&)> failed = {})
      : disk_(disk), clock_(clock), path_(std::move(path)), failed_(std::move(failed)) {}
  /// Goes on with the file, or begins it; whoever calls it is the only one who writes there.
  /// kDamaged when it is not as it was written; kIo.
  [[nodiscard]] Result<void> open();
  /// Keeps the events that docs/formats/audit.md lists, once it is open.
  void on(const observe::Event& event) override;
  /// Why not all records are kept, if they are not.
  [[nodiscard]] Result<void> status() const;

 private:
  [[nodiscard]] Result<void> keep();

  sys::Disk& disk_;
  const sys::Clock& clock_;
  std::filesystem::path path_;
  mutable std::mutex lock_;
  std::optional<journal::Journal> journal_;
  std::function<void(const Error&)> failed_;
  std::deque<std::string> waiting_;
  bool full_ = false;  // the disk, when it was last tried
  std::optional<Error> error_;
};

struct AuditRecords {
  std::vector<std::string> lines;  // JSON objects, as they were written
  Sha256 head{};                   // hash of the last: names all of them
};

/// Also while the coordinator is at work. kFileMissing, kIo; kDamaged naming file and byte.
[[nodiscard]] Result<AuditRecords> read_audit_trail(const sys::Disk& disk,
                                                    const std::filesystem::path& path);

}  // namespace strata::cli

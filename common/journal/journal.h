#pragma once
// An append-only file of records, each chained to the one before it by its hash: what must survive
// a crash, in the order in which it was decided (docs/formats/journal.md). Knows no record's
// meaning.
//   file    "STRAJRNL" 8 | format 2 | kind 2 | zeros 4, then records
//   record  length 4 | type 2 | zeros 2 | sequence 8 | sure 8 | previous 16 | payload | CRC-32C 4
// `previous` is the beginning of the SHA-256 of the record before (zeros for the first); `sure`
// counts the records that were known to be on the disk when this one was written. So what a crash
// left half-written can be told from damage to what was promised: the first is cut off, the second
// refused.
// Threads: one.
#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

#include "base/bytes.h"
#include "base/hash.h"
#include "base/result.h"
#include "sys/disk.h"

namespace strata::journal {

inline constexpr std::uint16_t kFormat = 1;
inline constexpr std::size_t kFileHeaderBytes = 16;
inline constexpr std::size_t kRecordOverhead = 44;
inline constexpr std::size_t kPayloadMax = 1u << 20;

struct Record {
  std::uint16_t type = 0;
  std::uint64_t sequence = 0;  // from 0
  Bytes payload;
};

class Journal {
 public:
  /// Opens or begins the journal `path`; `kind` is a number of the owner's choice that tells its
  /// journals from others'. Fills `records` with what is there. Torn records at the end are cut off
  /// (`cut_bytes`). kDamaged naming file and byte for anything else that is not as written,
  /// kUnsupported for a newer format.
  [[nodiscard]] static Result<Journal> open(sys::Disk& disk, const std::filesystem::path& path,
                                            std::uint16_t kind, std::vector<Record>& records,
                                            sys::Durability durability = sys::Durability::kMachine);
  /// The records of a journal that somebody else may be writing, without changing it; a torn end is
  /// left out. `head`, where it is given: hash of the last record.
  [[nodiscard]] static Result<std::vector<Record>> read(const sys::Disk& disk,
                                                        const std::filesystem::path& path,
                                                        std::uint16_t kind, Sha256* head = nullptr);

  /// Writes a record; it counts only once sync() has succeeded. kDiskFull leaves the journal as it
  /// was, to be tried again.
  [[nodiscard]] Result<void> append(std::uint16_t type, ByteSpan payload);
  /// Everything appended is on the disk (kProcess: with the system, which writes it some time).
  /// After a failure the journal takes nothing more (kIo): only reading it again tells what is
  /// there.
  [[nodiscard]] Result<void> sync();

  [[nodiscard]] std::uint64_t size() const { return next_; }  // records
  /// Hash of the last record: names everything before it.
  [[nodiscard]] const Sha256& head() const { return head_; }
  [[nodiscard]] std::uint64_t cut_bytes() const { return cut_; }

 private:
  Journal() = default;

  std::string where_;
  std::unique_ptr<sys::RandomFile> file_;
  sys::Durability durability_ = sys::Durability::kMachine;
  std::uint64_t end_ = 0;
  std::uint64_t next_ = 0;  // sequence of the next record
  std::uint64_t sure_ = 0;  // records known to be on the disk
  std::uint64_t cut_ = 0;
  Sha256 head_{};
  bool failed_ = false;
};

}  // namespace strata::journal

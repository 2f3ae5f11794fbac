#include "journal/journal.h"

#include <algorithm>
#include <optional>

#include "base/crc32c.h"

namespace strata::journal {
namespace {

constexpr std::string_view kMagic = "STRAJRNL";
constexpr std::size_t kHeadBytes = 40;  // of a record, before its payload
constexpr std::size_t kPreviousBytes = 16;

Error damaged(const std::string& where, std::uint64_t at, std::string what) {
  return {.code = ErrorCode::kDamaged,
          .what = std::move(what),
          .where = where + ", byte " + std::to_string(at),
          .rule = "a journal is only ever added to",
          .remedy = "restore it from a copy"};
}

Bytes file_header(std::uint16_t kind) {
  ByteWriter out;
  out.raw(bytes_of(kMagic));
  out.number(kFormat);
  out.number(kind);
  out.number(std::uint32_t{0});
  return std::move(out).take();
}

struct Found {
  Record record;
  std::uint64_t sure = 0;
  ByteSpan previous;
  std::size_t bytes = 0;
};

// The record that begins at `at`, if one does: whole and with the right checksum.
std::optional<Found> record_at(ByteSpan file, std::size_t at) {
  ByteReader in(file.subspan(at));
  const auto length = in.number<std::uint32_t>();
  if (!length || *length > kPayloadMax || in.left() < kHeadBytes - 4 + *length + 4)
    return std::nullopt;
  Found out;
  out.record.type = *in.number<std::uint16_t>();
  const auto zeros = *in.number<std::uint16_t>();
  out.record.sequence = *in.number<std::uint64_t>();
  out.sure = *in.number<std::uint64_t>();
  out.previous = *in.raw(kPreviousBytes);
  const ByteSpan payload = *in.raw(*length);
  out.bytes = kHeadBytes + *length + 4;
  if (zeros != 0 || crc32c(file.subspan(at, out.bytes - 4)) != *in.number<std::uint32_t>())
    return std::nullopt;
  out.record.payload.assign(payload.begin(), payload.end());
  return out;
}

struct Read {
  std::vector<Record> records;
  std::uint64_t end = 0;  // of the last good record
  Sha256 head{};
};

// What follows a broken record decides: a record that was written when the broken one was sure to
// be on the disk means damage; else a crash tore the end.
Result<void> check_torn(ByteSpan file, std::size_t from, std::uint64_t broken,
                        const std::string& where) {
  for (std::size_t at = from + 1; at + kRecordOverhead <= file.size(); ++at) {
    // The sequence number lies at byte 8: most places are ruled out by it alone.
    const auto sequence = *ByteReader(file.subspan(at + 8)).number<std::uint64_t>();
    if (sequence <= broken || sequence - broken > file.size()) continue;
    const auto later = record_at(file, at);
    if (later && later->sure > broken) {
      return fail(damaged(where, from,
                          "record " + std::to_string(broken) + " is broken, but record " +
                              std::to_string(sequence) + " behind it is whole"));
    }
  }
  return {};
}

Result<Read> read_all(ByteSpan file, std::uint16_t kind, const std::string& where) {
  const Bytes expected = file_header(kind);
  if (file.size() < kFileHeaderBytes) {
    if (!std::equal(file.begin(), file.end(), expected.begin()))
      return fail(damaged(where, 0, "is not a journal"));
    return Read{};  // a crash while it was begun
  }
  if (!std::equal(kMagic.begin(), kMagic.end(), text_of(file).begin()))
    return fail(damaged(where, 0, "is not a journal"));
  const auto format = *ByteReader(file.subspan(kMagic.size())).number<std::uint16_t>();
  if (format > kFormat) {
    return fail({.code = ErrorCode::kUnsupported,
                 .what = "is written by format " + std::to_string(format),
                 .where = where,
                 .rule = "this program reads up to format " + std::to_string(kFormat),
                 .remedy = "use the version that wrote it, or a newer one"});
  }
  if (!std::equal(expected.begin(), expected.end(), file.begin()))
    return fail(damaged(where, 8, "is the journal of something else"));
  Read out;
  out.end = kFileHeaderBytes;
  while (out.end < file.size()) {
    auto found = record_at(file, out.end);
    const std::uint64_t next = out.records.size();
    if (!found) {
      if (auto torn = check_torn(file, out.end, next, where); !torn)
        return fail(std::move(torn).error());
      break;
    }
    const bool follows =
        found->record.sequence == next &&
        std::equal(found->previous.begin(), found->previous.end(), out.head.begin());
    if (!follows) {
      return fail(damaged(where, out.end,
                          "record " + std::to_string(found->record.sequence) +
                              " does not follow the one before it"));
    }
    out.head = sha256(file.subspan(out.end, found->bytes));
    out.end += found->bytes;
    out.records.push_back(std::move(found->record));
  }
  return out;
}

}  // namespace

Result<std::vector<Record>> Journal::read(const sys::Disk& disk, const std::filesystem::path& path,
                                          std::uint16_t kind, Sha256* head) {
  auto file = disk.map(path);
  if (!file) return fail(std::move(file).error());
  auto all = read_all((*file)->bytes(), kind, path.string());
  if (!all) return fail(std::move(all).error());
  if (head != nullptr) *head = all->head;
  return std::move(all->records);
}

Result<Journal> Journal::open(sys::Disk& disk, const std::filesystem::path& path,
                              std::uint16_t kind, std::vector<Record>& records,
                              sys::Durability durability) {
  auto file = disk.open(path, durability);
  if (!file) return fail(std::move(file).error());
  Journal out;
  out.where_ = path.string();
  out.durability_ = durability;
  out.file_ = std::move(*file);
  auto size = out.file_->size();
  if (!size) return fail(std::move(size).error());
  Bytes bytes(*size);
  if (auto got = out.file_->read(0, bytes); !got) return fail(std::move(got).error());
  auto all = read_all(bytes, kind, out.where_);
  if (!all) return fail(std::move(all).error());
  out.cut_ = *size - std::min(*size, std::max<std::uint64_t>(all->end, kFileHeaderBytes));
  out.end_ = all->end;
  out.next_ = out.sure_ = all->records.size();
  out.head_ = all->head;
  Result<void> done;
  if (all->end == 0) {
    done = out.file_->resize(0);
    if (done) done = out.file_->write(0, file_header(kind));
    out.end_ = kFileHeaderBytes;
  } else if (out.cut_ > 0) {
    done = out.file_->resize(out.end_);
  }
  // Also when nothing was changed: what the last process wrote counts from now on.
  if (done) done = out.file_->sync();
  if (!done) return fail(std::move(done).error());
  records = std::move(all->records);
  return out;
}

Result<void> Journal::append(std::uint16_t type, ByteSpan payload) {
  check(payload.size() <= kPayloadMax, "a journal record fits its size");
  if (failed_) {
    return fail({.code = ErrorCode::kIo,
                 .what = "takes nothing after a failed flush",
                 .where = where_,
                 .remedy = "start again: what is on the disk is read then"});
  }
  ByteWriter out;
  out.reserve(kRecordOverhead + payload.size());
  out.number(static_cast<std::uint32_t>(payload.size()));
  out.number(type);
  out.number(std::uint16_t{0});
  out.number(next_);
  out.number(sure_);
  out.raw(ByteSpan(head_).first(kPreviousBytes));
  out.raw(payload);
  Bytes bytes = std::move(out).take();
  const std::uint32_t sum = crc32c(bytes);
  const ByteSpan tail = std::as_bytes(std::span(&sum, 1));
  bytes.insert(bytes.end(), tail.begin(), tail.end());
  if (auto written = file_->write(end_, bytes); !written) {
    // A part of it may stand there; it is written over by the next try, or cut off as torn.
    if (written.error().code != ErrorCode::kDiskFull) failed_ = true;
    return written;
  }
  head_ = sha256(bytes);
  end_ += bytes.size();
  ++next_;
  return {};
}

Result<void> Journal::sync() {
  if (failed_ || sure_ == next_) return failed_ ? append(0, {}) : Result<void>{};
  if (durability_ == sys::Durability::kProcess) return {};  // nothing is promised against a fall
  if (auto synced = file_->sync(); !synced) {
    failed_ = true;
    return synced;
  }
  sure_ = next_;
  return {};
}

}  // namespace strata::journal

#include "cli/audit_trail.h"

#include <algorithm>

#include "observe/jsonl.h"

namespace strata::cli {
namespace {

constexpr std::uint16_t kAuditJournal = 2;  // its kind
constexpr std::uint16_t kEvent = 1;         // type of its records
constexpr std::size_t kWaitingMax = 10000;  // records, while the disk is full

// Not how training went: that is no matter of who did what, and there is much of it.
constexpr std::string_view kKept[] = {
    "run_opened", "client_joined", "client_left", "client_round", "client_refused",
    "aggregate",  "run_stopped",   "message",     "run_finished", "connection_refused"};

// Of an event that also tells how training went: what came from whom.
observe::Event without_learning(observe::Event event) {
  static constexpr std::string_view kFields[] = {"round", "client",      "bytes_up",  "clients",
                                                 "bytes", "packet_hash", "chain_hash"};
  if (event.name != "client_round" && event.name != "aggregate") return event;
  std::erase_if(event.fields, [](const auto& field) {
    return std::find(std::begin(kFields), std::end(kFields), field.first) == std::end(kFields);
  });
  return event;
}

}  // namespace

Result<void> AuditTrail::open() {
  std::vector<journal::Record> before;
  auto journal = journal::Journal::open(disk_, path_, kAuditJournal, before);
  if (!journal) return fail(std::move(journal).error());
  const std::scoped_lock guard(lock_);
  journal_ = std::move(*journal);
  return {};
}

void AuditTrail::on(const observe::Event& event) {
  if (std::find(std::begin(kKept), std::end(kKept), event.name) == std::end(kKept)) return;
  const std::string text = observe::json_line(without_learning(event), clock_.utc());
  const std::scoped_lock guard(lock_);
  if (!journal_ || error_ || waiting_.size() >= kWaitingMax) return;
  waiting_.push_back(text);
  auto kept = keep();
  // Anybody can call, as often as they like.
  if (kept && event.name != "connection_refused") kept = journal_->sync();
  const bool full = !kept && kept.error().code == ErrorCode::kDiskFull;
  if (!kept && failed_ && !(full && full_)) failed_(kept.error());
  full_ = full;
  if (!kept && !full) error_ = std::move(kept).error();
}

Result<void> AuditTrail::keep() {
  while (!waiting_.empty()) {
    if (auto kept = journal_->append(kEvent, bytes_of(waiting_.front())); !kept) return kept;
    waiting_.pop_front();
  }
  return {};
}

Result<void> AuditTrail::status() const {
  const std::scoped_lock guard(lock_);
  if (error_) return fail(*error_);
  if (waiting_.empty()) return {};
  return fail({.code = ErrorCode::kDiskFull,
               .what = "lacks the last " + std::to_string(waiting_.size()) + " records",
               .where = path_.string()});
}

Result<AuditRecords> read_audit_trail(const sys::Disk& disk, const std::filesystem::path& path) {
  AuditRecords out;
  auto records = journal::Journal::read(disk, path, kAuditJournal, &out.head);
  if (!records) return fail(std::move(records).error());
  for (const auto& record : *records) out.lines.emplace_back(text_of(record.payload));
  return out;
}

}  // namespace strata::cli

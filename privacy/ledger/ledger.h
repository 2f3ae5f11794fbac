#pragma once
// What a data owner's data sets have already cost. A round asks here first:
//   reserve  ->  gradients with noise  ->  update in the outbox  ->  release  ->  update is sent
// and what reserve has charged stays charged, whatever becomes of the round: a crash costs it, only
// the same bytes may be sent again for nothing. One folder for each owner, shared by all runs:
//   ledger.jsonl    the records (docs/formats/ledger.md)
//   key             what rows are named with (fingerprint.h); for its owner only
//   rows-*          the names' prefixes of each version of each data set
//   lock            held during each call, by one process at a time
// Each call reads the file anew under the lock, so two runs on one data set add up.
// Threads: one for each object; any number of objects and processes on one folder.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/result.h"
#include "privacy/ledger/charge.h"
#include "privacy/ledger/filesystem.h"
#include "privacy/ledger/fingerprint.h"
#include "sys/clock.h"
#include "sys/disk.h"

namespace strata::ledger {

struct Record;
struct State;
using Sharers = std::set<std::string>;  // names of data sets that have a row in common

/// Waits a little before the lock is tried again.
void pause_before_next_try();

/// What a ledger works with; disk and clock outlive it.
struct Tools {
  sys::Disk& disk;
  const sys::Clock& clock;
  EpsilonOf epsilon_of;
  std::string host{};                             // for people, in each record
  FilesystemOf filesystem_of = posix_filesystem;  // empty: not asked
  AccessOf access_of = posix_access;              // of the key; empty: not asked
  std::function<void()> pause = pause_before_next_try;
};

/// Whether rows that another data set has may come under a new name or join another set, together
/// with what they have been through.
enum class Inherit { kNo, kYes };

struct Receipt {
  std::uint64_t sequence = 0;  // of the record
  double epsilon_after = 0.0;  // of the data set, at its own delta
  Head head;
};

class Ledger {
 public:
  /// Begins an empty ledger in `folder`, which nothing else does: an owner says so when there is
  /// nothing to remember. kFileExists when there is one.
  [[nodiscard]] static Result<void> create(const Tools& tools, const std::filesystem::path& folder);
  /// Begins one where not even the folder is there, in an owner's first run; several processes may
  /// be the first at once. A folder without a ledger is left as it is: create() is for its owner.
  [[nodiscard]] static Result<void> create_first(const Tools& tools,
                                                 const std::filesystem::path& folder);
  /// kFileMissing when there is none, kAuth when others may read its key, kUnsupported for a file
  /// system that cannot hold it or a newer
  /// format, kDamaged for anything that is not as it was written. A record that a crash tore is
  /// left out: its charge was never granted.
  [[nodiscard]] static Result<Ledger> open(Tools tools, std::filesystem::path folder);

  /// Names rows with this ledger's key.
  [[nodiscard]] Fingerprinter fingerprinter() const { return Fingerprinter(key_); }

  /// Makes a data set known, or its rows as they are now. A row that another set has or had brings
  /// along what that set was and will be charged: kBudget unless `inherit` is kYes. kConfig when
  /// the set is known under other terms, kData when it has no rows.
  [[nodiscard]] Result<void> add_dataset(const Dataset& dataset, const Fingerprint& rows,
                                         Inherit inherit = Inherit::kNo);

  /// The terms under which a data set is known here, if it is.
  [[nodiscard]] Result<std::optional<Dataset>> terms_of(const std::string& dataset);

  /// Charges before anything is computed; on the disk when it returns. kBudget when a cap would be
  /// exceeded: that of the data set, of another that shares rows with it, or one of the
  /// reservation's. A failure of the disk may leave the charge behind, never a release without one;
  /// after a failed flush the object takes nothing more (kIo).
  [[nodiscard]] Result<Receipt> reserve(const Reservation& reservation);
  /// The refusal that reserve() would give now, if it would; charges nothing.
  [[nodiscard]] Result<void> check_reserve(const Reservation& reservation);
  /// How many such reservations, up to `most`, would be granted one after the other.
  [[nodiscard]] Result<std::uint64_t> rounds_that_fit(const Reservation& reservation,
                                                      std::uint64_t most);
  /// Before an update of the round is sent for the first time. The same update again is free and
  /// changes nothing. kBudget when the round was not charged, or its charge was used for another
  /// update or given up.
  [[nodiscard]] Result<void> release(const std::string& dataset, const std::string& run,
                                     std::uint64_t round, const Sha256& update);
  /// The round's charge will not be used. Nothing is given back.
  [[nodiscard]] Result<void> abandon(const std::string& dataset, const std::string& run,
                                     std::uint64_t round);
  /// No more charges to this data set (kBudget from now on).
  [[nodiscard]] Result<void> close(const std::string& dataset);

  /// Epsilon of the data set at its own delta: the most that any of its rows has been through.
  [[nodiscard]] Result<double> spent(const std::string& dataset);

  /// As of the last call.
  [[nodiscard]] const Head& head() const { return head_; }
  /// Names this ledger: the hash of its first record; zeros before there is one.
  [[nodiscard]] const Sha256& id() const { return id_; }
  /// `seen` is a head that somebody else remembers. kDamaged when the ledger has not got it any
  /// more: a copy was put back, or two copies went their own ways.
  [[nodiscard]] Result<void> check_remembered(const Head& seen);

 private:
  struct Session;
  Ledger(Tools tools, std::filesystem::path folder, const RowKey& key)
      : tools_(std::move(tools)), folder_(std::move(folder)), key_(key) {}
  [[nodiscard]] Result<Session> begin();
  [[nodiscard]] Result<void> fits(const Session& session, const Reservation& reservation) const;
  [[nodiscard]] Result<void> append(Session& session, const Record& record);
  // The sets of sharers that `rows` bring about.
  [[nodiscard]] Result<std::vector<Sharers>> sharers_among(const State& state,
                                                           const std::string& dataset,
                                                           const Fingerprint& rows) const;

  Tools tools_;
  std::filesystem::path folder_;
  RowKey key_;
  Head head_;
  Sha256 id_{};
  bool failed_ = false;
};

}  // namespace strata::ledger

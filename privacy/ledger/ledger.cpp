#include "privacy/ledger/ledger.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <set>
#include <thread>

#include "base/bytes.h"
#include "privacy/ledger/budget.h"
#include "privacy/ledger/records.h"
#include "sys/temporary_files.h"

namespace strata::ledger {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr int kTries = 1500;  // for the lock: half a minute
constexpr std::size_t kNameMax = 200;

fs::path file_in(const fs::path& folder) { return folder / "ledger.jsonl"; }
fs::path key_in(const fs::path& folder) { return folder / "key"; }
fs::path rows_in(const fs::path& folder, const Sha256& root) {
  return folder / ("rows-" + hex(root).substr(0, 16));
}

Result<std::unique_ptr<sys::FileLock>> lock_on(const Tools& tools, const fs::path& path) {
  for (int tried = 1;; ++tried) {
    auto lock = tools.disk.lock(path);
    if (lock || lock.error().code != ErrorCode::kLocked || tried == kTries) return lock;
    tools.pause();
  }
}

Result<Lines> read_file(const sys::RandomFile& file, const fs::path& path) {
  const auto size = file.size();
  if (!size) return fail(size.error());
  Bytes bytes(*size);
  if (auto got = file.read(0, bytes); !got) return fail(std::move(got).error());
  return read_lines(text_of(bytes), path.string());
}

// Behind the lines that are there, in place of what a crash tore; not flushed yet.
Result<void> write_line(sys::RandomFile& file, const Lines& lines, const std::string& line) {
  if (lines.cut_bytes > 0) {
    if (auto cut = file.resize(lines.end); !cut) return cut;
  }
  const std::string text = (lines.unended ? "\n" : "") + line;
  return file.write(lines.end, bytes_of(text));
}

// Lines of a process that was killed before its flush, or whose flush failed, count, and must last
// before they are told of. The system may believe that what it failed to write is on the disk
// (Rebello et al. 2020, "Can Applications Recover from fsync Failures?"): so it is written again.
// All lines before the last one were flushed with this done to them.
Result<void> keep_last_line(sys::RandomFile& file, const Lines& lines) {
  Bytes last(lines.end - lines.last);
  if (auto got = file.read(lines.last, last); !got) return got;
  if (auto written = file.write(lines.last, last); !written) return written;
  return file.sync();
}

Result<void> check_folder(const Tools& tools, const fs::path& folder) {
  if (!tools.filesystem_of) return {};
  return check_filesystem(folder, tools.filesystem_of);
}

// Others get to see the hash of a line (Head). All else in it can be guessed: the names, the plan,
// the time, what was spent before.
Result<ordered_json> stamped(ordered_json fields, const Tools& tools) {
  auto nonce = draw_nonce();
  if (!nonce) return fail(std::move(nonce).error());
  fields["nonce"] = *std::move(nonce);
  fields["time"] = tools.clock.utc();
  fields["host"] = printable(tools.host, kNameMax);
  return fields;
}

Head head_of(const Lines& lines) {
  return {lines.all.size(), lines.all.empty() ? Sha256{} : lines.all.back().hash};
}

Result<void> check_holds(const Lines& lines, const Head& seen, const fs::path& path) {
  if (seen.records == 0) return {};
  const bool shorter = lines.all.size() < seen.records;
  if (!shorter && lines.all[seen.records - 1].hash == seen.hash) return {};
  return fail({.code = ErrorCode::kDamaged,
               .what = shorter
                           ? "was rolled back: it has " + std::to_string(lines.all.size()) +
                                 " records of " + std::to_string(seen.records) + " that were seen"
                           : "was rolled back and went another way: record " +
                                 std::to_string(seen.records) + " is not the one that was seen",
               .where = path.string(),
               .rule = "what was spent stays spent",
               .remedy = "put the newest copy of the ledger back"});
}

Error wrong(ErrorCode code, std::string what, std::string rule, std::string remedy = {}) {
  return {.code = code,
          .what = std::move(what),
          .where = "budget",
          .rule = std::move(rule),
          .remedy = std::move(remedy)};
}

// Names come back from the file as they went in.
Result<void> check_name(const std::string& name, const std::string& what) {
  if (!name.empty() && printable(name, kNameMax) == name) return {};
  return fail(wrong(ErrorCode::kConfig, what + " is \"" + printable(name) + "\"",
                    "it is text of 1 to 200 bytes"));
}

Result<void> check_amount(double epsilon, double delta, const std::string& whose) {
  if (epsilon > 0.0 && std::isfinite(epsilon) && delta > 0.0 && delta < 1.0) return {};
  return fail(wrong(ErrorCode::kConfig,
                    "the cap of " + whose + " is eps " + std::to_string(epsilon) + ", delta " +
                        std::to_string(delta),
                    "eps is finite and above 0, delta between 0 and 1"));
}

Result<void> check_reservation(const Reservation& r) {
  if (auto name = check_name(r.run, "the run's name"); !name) return name;
  if (auto name = check_name(r.charge.mechanism, "the mechanism"); !name) return name;
  const Charge& c = r.charge;
  if (!(c.q > 0.0 && c.q <= 1.0) || !(c.z > 0.0) || !std::isfinite(c.z) || c.steps == 0) {
    return fail(wrong(ErrorCode::kConfig,
                      "a round takes " + std::to_string(c.steps) + " steps of q " +
                          std::to_string(c.q) + ", z " + std::to_string(c.z),
                      "there is a step, 0 < q <= 1, and z is finite and above 0"));
  }
  for (const Cap& cap : r.caps) {
    if (auto amount = check_amount(cap.epsilon, cap.delta, "the " + cap.whose); !amount)
      return amount;
  }
  return {};
}

Result<const Opened*> usable(const State& state, const std::string& dataset) {
  const auto found = state.datasets.find(dataset);
  if (found == state.datasets.end()) {
    return fail(wrong(ErrorCode::kConfig, "dataset " + printable(dataset) + " is not in the ledger",
                      "a data set is made known before it is used"));
  }
  if (found->second.closed)
    return fail(wrong(ErrorCode::kBudget, "dataset " + dataset + " is closed",
                      "a closed data set is not used any more"));
  return &found->second;
}

bool is_for(const Reserved& r, const std::string& dataset, const std::string& run,
            std::uint64_t round) {
  return r.dataset == dataset && r.run == run && r.round == round;
}

std::string quoted_list(const std::set<std::string>& names) {
  std::string out;
  for (const auto& name : names) out += (out.empty() ? "" : ", ") + name;
  return out;
}

}  // namespace

void pause_before_next_try() { std::this_thread::sleep_for(std::chrono::milliseconds(20)); }

struct Ledger::Session {
  std::unique_ptr<sys::FileLock> lock;
  std::unique_ptr<sys::RandomFile> file;
  Lines lines;
  State state;

  // The latest charge of the round that can still be used.
  Reserved* open_charge(const std::string& dataset, const std::string& run, std::uint64_t round) {
    const auto found =
        std::find_if(state.reserved.rbegin(), state.reserved.rend(), [&](const Reserved& r) {
          return is_for(r, dataset, run, round) && !r.update && !r.abandoned;
        });
    return found == state.reserved.rend() ? nullptr : &*found;
  }
};

Result<void> Ledger::create(const Tools& tools, const fs::path& folder) {
  if (auto made = tools.disk.create_private_directory(folder); !made) return made;
  if (auto kind = check_folder(tools, folder); !kind) return kind;
  auto lock = lock_on(tools, folder / "lock");
  if (!lock) return fail(std::move(lock).error());
  auto file = tools.disk.open(file_in(folder));
  if (!file) return fail(std::move(file).error());
  auto lines = read_file(**file, file_in(folder));
  if (!lines) return fail(std::move(lines).error());
  if (!lines->all.empty()) {
    return fail({.code = ErrorCode::kFileExists,
                 .what = "is there already",
                 .where = file_in(folder).string(),
                 .rule = "a ledger is begun once"});
  }
  auto key = RowKey::read(tools.disk, key_in(folder));
  if (!key) {  // none yet, or one that a crash tore before anything was named with it
    key = RowKey::draw();
    if (!key) return fail(std::move(key).error());
  }
  // Also one that was there: a process whose flush failed may have left it.
  if (auto written = key->write(tools.disk, key_in(folder)); !written) return written;
  const auto fields = stamped(created_record(key->id()).fields, tools);
  if (!fields) return fail(fields.error());
  const std::string line = make_line(*fields, *lines);
  if (auto written = write_line(**file, *lines, line); !written) return written;
  return (*file)->sync();
}

Result<void> Ledger::create_first(const Tools& tools, const fs::path& folder) {
  if (folder.has_parent_path()) {
    if (auto made = tools.disk.create_directories(folder.parent_path()); !made) return made;
  }
  // Beside the folder: whoever finds the folder finds a ledger that is whole.
  auto lock = lock_on(tools, folder.string() + ".lock");
  if (!lock) return fail(std::move(lock).error());
  return tools.disk.exists(folder) ? Result<void>{} : create(tools, folder);
}

Result<Ledger> Ledger::open(Tools tools, fs::path folder) {
  const auto none = [&] {
    return fail({.code = ErrorCode::kFileMissing,
                 .what = "there is no ledger",
                 .where = file_in(folder).string(),
                 .rule = "only its owner can say that nothing was spent before",
                 .remedy = "put the ledger back, or begin one for data never used (ledger init "
                           "--new-dataset)"});
  };
  if (!tools.disk.exists(file_in(folder))) return none();
  if (auto kind = check_folder(tools, folder); !kind) return fail(std::move(kind).error());
  if (tools.access_of && tools.disk.exists(key_in(folder))) {
    if (auto secret = check_secret(key_in(folder), tools.access_of); !secret)
      return fail(std::move(secret).error());
  }
  auto key = RowKey::read(tools.disk, key_in(folder));
  if (!key) {
    if (key.error().code != ErrorCode::kFileMissing && key.error().code != ErrorCode::kDamaged)
      return fail(std::move(key).error());
    // A crash while the ledger was begun leaves a file without records.
    const auto text = tools.disk.read_text(file_in(folder));
    if (!text) return fail(text.error());
    const auto lines = read_lines(*text, file_in(folder).string());
    if (lines && lines->all.empty()) return none();
    key.error().code = ErrorCode::kDamaged;
    return fail(std::move(key).error(), "reading the key of the ledger's rows");
  }
  Ledger out(std::move(tools), folder, *key);
  auto session = out.begin();
  if (!session) return fail(std::move(session).error());
  if (session->lines.all.empty()) return none();
  // What processes that were killed left; no other one works here while this holds the lock.
  if (auto gone = sys::remove_temporaries(out.tools_.disk, folder); !gone)
    return fail(std::move(gone).error());
  return out;
}

Result<Ledger::Session> Ledger::begin() {
  const fs::path path = file_in(folder_);
  if (failed_) {
    return fail({.code = ErrorCode::kIo,
                 .what = "takes nothing after a failed flush",
                 .where = path.string(),
                 .remedy = "start again: what is on the disk is read then"});
  }
  auto lock = lock_on(tools_, folder_ / "lock");
  if (!lock) return fail(std::move(lock).error());
  if (!tools_.disk.exists(path)) {  // opening would begin another
    return fail({.code = ErrorCode::kDamaged,
                 .what = "is gone",
                 .where = path.string(),
                 .remedy = "restore it from the newest copy"});
  }
  auto file = tools_.disk.open(path);
  if (!file) return fail(std::move(file).error());
  auto lines = read_file(**file, path);
  if (!lines) return fail(std::move(lines).error());
  if (auto holds = check_holds(*lines, head_, path); !holds) return fail(std::move(holds).error());
  auto state = read_records(*lines, path.string());
  if (!state) return fail(std::move(state).error());
  if (!lines->all.empty() && state->key_id != key_.id()) {
    return fail({.code = ErrorCode::kDamaged,
                 .what = "is not the key that the ledger's rows were named with",
                 .where = key_in(folder_).string(),
                 .rule = "rows are known again by it",
                 .remedy = "put the key back"});
  }
  if (lines->all.size() > head_.records) {
    if (auto kept = keep_last_line(**file, *lines); !kept) {
      failed_ = true;
      return fail(std::move(kept).error());
    }
  }
  head_ = head_of(*lines);
  if (!lines->all.empty()) id_ = lines->all.front().hash;
  return Session{std::move(*lock), std::move(*file), std::move(*lines), std::move(*state)};
}

Result<void> Ledger::append(Session& session, const Record& record) {
  const auto fields = stamped(record.fields, tools_);
  if (!fields) return fail(fields.error());
  const std::string line = make_line(*fields, session.lines);
  // What a failed write left is cut off by the next; what a failed flush left, nobody can tell.
  if (auto written = write_line(*session.file, session.lines, line); !written) return written;
  if (auto synced = session.file->sync(); !synced) {
    failed_ = true;
    return synced;
  }
  head_ = {head_.records + 1, sha256(bytes_of(std::string_view(line).substr(0, line.size() - 1)))};
  return {};
}

Result<void> Ledger::add_dataset(const Dataset& dataset, const Fingerprint& rows, Inherit inherit) {
  if (auto name = check_name(dataset.id, "the data set's name"); !name) return name;
  if (auto name = check_name(dataset.unit, "the unit"); !name) return name;
  if (auto name = check_name(dataset.adjacency, "the adjacency"); !name) return name;
  if (auto amount = check_amount(dataset.epsilon_cap, dataset.delta, "dataset " + dataset.id);
      !amount)
    return amount;
  if (rows.rows == 0) {
    return fail(wrong(ErrorCode::kData, "dataset " + dataset.id + " has no rows",
                      "a data set is known by its rows"));
  }
  auto session = begin();
  if (!session) return fail(std::move(session).error());
  const State& state = session->state;
  const auto known = state.datasets.find(dataset.id);
  if (known != state.datasets.end()) {
    if (auto open = usable(state, dataset.id); !open) return fail(std::move(open).error());
    if (known->second.terms != dataset) {
      return fail(wrong(ErrorCode::kConfig,
                        "dataset " + dataset.id + " is in the ledger under other terms",
                        "unit, adjacency, cap and delta are fixed when a data set is opened"));
    }
    const auto& versions = known->second.rows;
    if (std::any_of(versions.begin(), versions.end(),
                    [&](const Rows& version) { return version.root == rows.root; }))
      return {};
  }
  auto sharers = sharers_among(state, dataset.id, rows);
  if (!sharers) return fail(std::move(sharers).error());
  // Others that these rows come from and that the data set has not shared rows with before.
  std::set<std::string> fresh;
  for (const auto& set : *sharers) fresh.insert(set.begin(), set.end());
  for (const auto& set : state.sharers_of(dataset.id)) {
    for (const auto& name : set) fresh.erase(name);
  }
  if (!fresh.empty() && inherit == Inherit::kNo) {
    return fail(wrong(ErrorCode::kBudget,
                      "dataset " + dataset.id + " has rows of dataset " + quoted_list(fresh),
                      "rows keep what they have been through under any name",
                      "use the data set they came from, or take over what it spent (--inherit)"));
  }
  const Bytes prefixes = prefix_bytes(rows);
  auto written = tools_.disk.write_atomic(rows_in(folder_, rows.root), text_of(prefixes));
  if (!written) return written;
  const Rows version{rows.root, rows.rows, sha256(prefixes)};
  return append(*session,
                {known == state.datasets.end() ? open_record(dataset, version, *sharers)
                                               : rows_record(dataset.id, version, *sharers)});
}

Result<std::vector<Sharers>> Ledger::sharers_among(const State& state, const std::string& dataset,
                                                   const Fingerprint& rows) const {
  std::vector<Sharers> of_row(rows.prefixes.size());
  for (const auto& [name, other] : state.datasets) {
    if (name == dataset) continue;
    for (const Rows& version : other.rows) {
      auto theirs = read_prefixes(tools_.disk, rows_in(folder_, version.root), version.file);
      if (!theirs) return fail(std::move(theirs).error());
      for (std::size_t i = 0; i < of_row.size(); ++i) {
        if (std::binary_search(theirs->begin(), theirs->end(), rows.prefixes[i]))
          of_row[i].insert(name);
      }
    }
  }
  std::set<Sharers> distinct;
  for (auto& set : of_row) {
    if (set.empty()) continue;
    set.insert(dataset);
    distinct.insert(std::move(set));
  }
  return std::vector<Sharers>(distinct.begin(), distinct.end());
}

Result<std::optional<Dataset>> Ledger::terms_of(const std::string& dataset) {
  auto session = begin();
  if (!session) return fail(std::move(session).error());
  const auto found = session->state.datasets.find(dataset);
  if (found == session->state.datasets.end()) return std::optional<Dataset>{};
  return std::optional(found->second.terms);
}

Result<void> Ledger::fits(const Session& session, const Reservation& reservation) const {
  const State& state = session.state;
  if (auto known = usable(state, reservation.dataset); !known)
    return fail(std::move(known).error());
  auto over = excess(state, reservation, 1, tools_.epsilon_of);
  if (!over) return fail(std::move(over).error(), "computing what the round would cost");
  if (!*over) return {};
  std::set<std::uint64_t> rounds;
  for (const auto& r : state.reserved) {
    if (r.dataset == reservation.dataset && r.run == reservation.run) rounds.insert(r.round);
  }
  return fail(over_budget(**over, reservation.round, rounds.size()));
}

Result<void> Ledger::check_reserve(const Reservation& reservation) {
  if (auto right = check_reservation(reservation); !right) return right;
  auto session = begin();
  return session ? fits(*session, reservation) : fail(std::move(session).error());
}

Result<Receipt> Ledger::reserve(const Reservation& reservation) {
  if (auto right = check_reservation(reservation); !right) return fail(std::move(right).error());
  auto session = begin();
  if (!session) return fail(std::move(session).error());
  if (auto able = fits(*session, reservation); !able) return fail(std::move(able).error());
  const auto after = epsilon_of_dataset(session->state, reservation.dataset, {reservation.charge},
                                        tools_.epsilon_of);
  if (!after) return fail(after.error(), "computing what the round would cost");
  const std::uint64_t sequence = head_.records;
  if (auto done = append(*session, {reserve_record(reservation, *after)}); !done)
    return fail(std::move(done).error());
  return Receipt{sequence, *after, head_};
}

Result<std::uint64_t> Ledger::rounds_that_fit(const Reservation& reservation, std::uint64_t most) {
  if (auto right = check_reservation(reservation); !right) return fail(std::move(right).error());
  auto session = begin();
  if (!session) return fail(std::move(session).error());
  if (auto known = usable(session->state, reservation.dataset); !known)
    return fail(std::move(known).error());
  // Epsilon only grows with charges: the largest number that fits lies in [low, high].
  std::uint64_t low = 0, high = most;
  while (low < high) {
    const std::uint64_t middle = low + (high - low + 1) / 2;
    const auto over = excess(session->state, reservation, middle, tools_.epsilon_of);
    if (!over) return fail(over.error(), "computing what the rounds would cost");
    if (*over) {
      high = middle - 1;
    } else {
      low = middle;
    }
  }
  return low;
}

Result<void> Ledger::release(const std::string& dataset, const std::string& run,
                             std::uint64_t round, const Sha256& update) {
  auto session = begin();
  if (!session) return fail(std::move(session).error());
  const auto& all = session->state.reserved;
  const auto same = [&](const Reserved& r) {
    return is_for(r, dataset, run, round) && r.update == update;
  };
  if (std::any_of(all.begin(), all.end(), same)) return {};
  const Reserved* charge = session->open_charge(dataset, run, round);
  if (charge == nullptr) {
    const bool any = std::any_of(all.begin(), all.end(),
                                 [&](const Reserved& r) { return is_for(r, dataset, run, round); });
    return fail(
        wrong(ErrorCode::kBudget,
              "round " + std::to_string(round) + " of run " + printable(run) + " on dataset " +
                  printable(dataset) + (any ? " has no charge left" : " was never charged"),
              "each update that leaves was charged before", "charge the round and train it anew"));
  }
  return append(*session, {release_record(*charge, update)});
}

Result<void> Ledger::abandon(const std::string& dataset, const std::string& run,
                             std::uint64_t round) {
  auto session = begin();
  if (!session) return fail(std::move(session).error());
  const Reserved* charge = session->open_charge(dataset, run, round);
  if (charge == nullptr) return {};
  return append(*session, {abandon_record(*charge)});
}

Result<void> Ledger::close(const std::string& dataset) {
  auto session = begin();
  if (!session) return fail(std::move(session).error());
  if (auto known = usable(session->state, dataset); !known) return fail(std::move(known).error());
  return append(*session, {close_record(dataset)});
}

Result<double> Ledger::spent(const std::string& dataset) {
  auto session = begin();
  if (!session) return fail(std::move(session).error());
  if (!session->state.datasets.contains(dataset)) {
    return fail(usable(session->state, dataset).error());
  }
  return epsilon_of_dataset(session->state, dataset, {}, tools_.epsilon_of);
}

Result<void> Ledger::check_remembered(const Head& seen) {
  auto session = begin();
  if (!session) return fail(std::move(session).error());
  return check_holds(session->lines, seen, file_in(folder_));
}

}  // namespace strata::ledger

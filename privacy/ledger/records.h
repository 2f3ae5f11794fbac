#pragma once
// What the lines of a ledger say, and what follows from them. Pure: no disk, no clock.
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/hash.h"
#include "base/result.h"
#include "privacy/ledger/charge.h"
#include "privacy/ledger/lines.h"

namespace strata::ledger {

inline constexpr int kFormat = 1;

/// The fields of one that is yet to be written.
struct Record {
  nlohmann::ordered_json fields;
};

/// The rows of a data set at one time: a file of prefixes beside the ledger.
struct Rows {
  Sha256 root{};
  std::uint64_t count = 0;
  Sha256 file{};  // hash of the prefixes' file
};

struct Opened {
  Dataset terms;
  std::vector<Rows> rows;  // of every version, oldest first
  bool closed = false;
};

struct Reserved {
  std::uint64_t sequence = 0;
  std::string dataset;
  std::string run;
  std::uint64_t round = 0;
  Charge charge;
  bool abandoned = false;
  std::optional<Sha256> update;  // what was released for it
};

/// Names of data sets that have a row in common.
using Sharers = std::set<std::string>;

struct State {
  std::string key_id;
  std::map<std::string, Opened> datasets;
  std::vector<Reserved> reserved;
  std::vector<Sharers> sharers;

  /// The sets of sharers with `dataset` in them, at least {dataset} itself, none inside another. A
  /// row of the data set belongs to the members of one of them, so what it has been through is the
  /// charges of all of those.
  [[nodiscard]] std::vector<Sharers> sharers_of(const std::string& dataset) const;
  /// Charges against any member, oldest first; only those of `run` unless it is empty.
  [[nodiscard]] std::vector<Charge> charges(const Sharers& members, const std::string& run) const;
};

/// kDamaged naming the line when a record cannot be there or lacks a field, kUnsupported for a
/// newer format.
[[nodiscard]] Result<State> read_records(const Lines& lines, const std::string& where);

[[nodiscard]] Record created_record(const std::string& key_id);
/// `sharers`: those that the rows bring about.
[[nodiscard]] Record open_record(const Dataset& dataset, const Rows& rows,
                                 const std::vector<Sharers>& sharers);
/// Other rows of a data set that is open.
[[nodiscard]] Record rows_record(const std::string& dataset, const Rows& rows,
                                 const std::vector<Sharers>& sharers);
[[nodiscard]] Record reserve_record(const Reservation& reservation, double epsilon_after);
[[nodiscard]] Record release_record(const Reserved& reserved, const Sha256& update);
[[nodiscard]] Record abandon_record(const Reserved& reserved);
[[nodiscard]] Record close_record(const std::string& dataset);

}  // namespace strata::ledger

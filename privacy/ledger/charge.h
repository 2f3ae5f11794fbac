#pragma once
// The values that ledger and caller exchange: data sets with their terms, charges, caps.
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/hash.h"
#include "base/result.h"

namespace strata::ledger {

/// The terms under which a data set is used, fixed for as long as the ledger lives.
struct Dataset {
  std::string id;
  std::string unit;          // what is hidden: "example", "user", "client"
  std::string adjacency;     // "add_remove", "zero_out", "replace_one"
  double epsilon_cap = 0.0;  // over the data set's life; > 0
  double delta = 0.0;        // in (0, 1); that of the cap
  friend bool operator==(const Dataset&, const Dataset&) = default;
};

/// What happened, apart from how it is billed: `steps` releases of a mechanism, each on a sample of
/// rate q, with noise of z times the clip norm.
struct Charge {
  std::string mechanism;
  double q = 1.0;  // in (0, 1]
  double z = 0.0;  // > 0
  std::uint64_t steps = 0;
};

/// Epsilon at `delta` of all charges together; never below the truth, and never less for more
/// charges. Infinite for what it cannot bill.
using EpsilonOf = std::function<Result<double>(const std::vector<Charge>&, double delta)>;

/// A bound besides the data set's own.
struct Cap {
  std::string whose;  // "run", "plan"
  double epsilon = 0.0;
  double delta = 0.0;
  bool this_run_only = false;  // what other runs charged does not count
};

struct Reservation {
  std::string dataset;
  std::string run;
  std::uint64_t round = 0;
  Sha256 plan{};  // hash of what both sides agreed on
  Charge charge;
  std::vector<Cap> caps{};
};

/// How far a ledger has come; names everything in it.
struct Head {
  std::uint64_t records = 0;
  Sha256 hash{};  // of the last line; zeros for none
  friend bool operator==(const Head&, const Head&) = default;
};

}  // namespace strata::ledger

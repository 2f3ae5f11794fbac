#pragma once
// Who gets which record. Every way of splitting is a pure function of its arguments and a seeded
// stream: same seed, same split, whatever the machine. Record numbers within a share are ascending.
// Each client gets at least one record; where that is impossible the error says so.
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "sys/random.h"
#include "text/record.h"

namespace strata::text {

/// Record numbers of one client.
struct Share {
  std::string client;
  std::vector<std::size_t> records;
};

/// "client-1", "client-2", ...; with leading zeros from ten on, so that names sort as numbers.
[[nodiscard]] std::vector<std::string> client_names(std::size_t count);

/// A random order cut into shares whose sizes differ by at most one. kData: fewer records than
/// clients.
[[nodiscard]] Result<std::vector<Share>> split_iid(std::size_t records,
                                                   std::span<const std::string> clients,
                                                   sys::Stream stream);

/// One client a value of `field`, called by the value, in order of first appearance. kData: a
/// record without the field, or one value only.
[[nodiscard]] Result<std::vector<Share>> split_by_field(std::span<const Record> records,
                                                        std::string_view field);

/// As above, but the values are dealt to `clients`, largest value first, each to the client that
/// has the fewest records. kData also when there are fewer values than clients.
[[nodiscard]] Result<std::vector<Share>> split_by_field(std::span<const Record> records,
                                                        std::string_view field,
                                                        std::span<const std::string> clients);

/// For each value of `field`, proportions over clients drawn from Dirichlet(alpha, ..., alpha):
/// Hsu, Qi and Brown 2019 as in NIID-Bench (Li et al. 2022). Small alpha: each client sees few
/// values; large: alike. Drawn anew, up to 100 times, while a client has nothing. alpha > 0. kData:
/// still a client without a record.
[[nodiscard]] Result<std::vector<Share>> split_dirichlet(std::span<const Record> records,
                                                         std::string_view field, double alpha,
                                                         std::span<const std::string> clients,
                                                         sys::Stream stream);

/// Record numbers kept for training and held out for evaluation.
struct HeldOut {
  std::vector<std::size_t> train;
  std::vector<std::size_t> held_out;
};

/// A random `fraction` (0 < fraction < 1) of the records, at least one on each side. kData: fewer
/// than two records.
[[nodiscard]] Result<HeldOut> hold_out(std::size_t records, double fraction, sys::Stream stream);

/// Copies of the records numbered.
[[nodiscard]] std::vector<Record> select(std::span<const Record> records,
                                         std::span<const std::size_t> numbers);

}  // namespace strata::text

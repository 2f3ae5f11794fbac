#pragma once
// What a round costs beside its training: messages, hashes, what is made durable on both sides,
// encryption, the aggregation. The real coordinator and the real sessions, with clients that train
// nothing and send an update of a given size.
#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "sys/clock.h"
#include "sys/disk.h"
#include "sys/executor.h"
#include "transport/transport.h"

namespace strata::cli {

struct BenchRoundOptions {
  int clients = 10;
  int rounds = 10;  // timed; two more come before
  std::size_t update_bytes = 4096;
  std::string method = "fedavg";
  std::filesystem::path state;  // folder for what both sides keep; it exists
  sys::Durability durability = sys::Durability::kMachine;
  /// Whether clients keep their updates in an outbox: the coordinator is another process.
  bool outbox = true;
};

struct BenchRoundReport {
  double round_seconds = 0.0;      // median, from one opening to the next
  double aggregate_seconds = 0.0;  // median, of it for the aggregation and the report
  std::size_t update_bytes = 0;    // as sent
};

/// client-0000, client-0001, ...
[[nodiscard]] std::vector<std::string> bench_clients(int count);

using MakeDialer =
    std::function<Result<std::unique_ptr<transport::Dialer>>(const std::string& client)>;

/// The coordinator's part, until the last round is told to everybody. `listener` was made for
/// `loop`. With `also_here` the clients of that name train in the same loop.
[[nodiscard]] Result<BenchRoundReport> bench_rounds(const BenchRoundOptions& options,
                                                    sys::Loop& loop, transport::Listener& listener,
                                                    const sys::Clock& clock, sys::Disk& disk,
                                                    const MakeDialer& also_here = {});

/// The part of some clients, until each has the final model.
[[nodiscard]] Result<void> bench_round_clients(const BenchRoundOptions& options,
                                               const std::vector<std::string>& clients,
                                               const MakeDialer& dialer, sys::Loop& loop,
                                               sys::Disk& disk);

}  // namespace strata::cli

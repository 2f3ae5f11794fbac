#pragma once
// What the transport asks of an MPI library: the plugin has the one implementation that calls MPI,
// tests have one without. For the files mpi*.cpp and their tests only.
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "transport/mpi.h"

namespace strata::transport {

/// A message that has come; the bytes are the port's until the next receive().
struct MpiArrival {
  int rank = 0;
  ByteSpan bytes;
};

struct MpiPlace {
  int rank = 0;
  int size = 0;
};

/// All calls come from one thread, and none waits for another rank but start() and finish().
/// Messages between two ranks keep their order.
class MpiPort {
 public:
  virtual ~MpiPort() = default;
  virtual Result<MpiPlace> start() = 0;
  /// The bytes stay where they are until sent(rank); only then may the next be sent to this rank.
  virtual Result<void> send(int rank, ByteSpan bytes) = 0;
  virtual Result<bool> sent(int rank) = 0;
  /// A message that is here whole; nothing when there is none.
  virtual Result<std::optional<MpiArrival>> receive() = 0;
  /// Whether a message has begun to come: it is worth asking again at once.
  [[nodiscard]] virtual bool receiving() const = 0;
  /// Returns when all ranks have called it; maybe never, when one is dead.
  virtual void finish() = 0;
  /// The last call when finish() was not: MPI may still read from `sending` and write to what the
  /// port itself holds, until the process ends. `self` is this port.
  virtual void abandon(std::unique_ptr<MpiPort> self, std::vector<Bytes> sending) = 0;
};

/// The plugin's one function, kMpiFactory by name: a port, or null when `version` is not its own.
/// Plugin and program are of one build; the version finds one that was left behind.
inline constexpr int kMpiPortVersion = 1;
inline constexpr const char* kMpiFactory = "strata_mpi_port";
using MpiFactory = MpiPort* (*)(int version);

/// join_mpi() with a port that is there already.
[[nodiscard]] Result<std::unique_ptr<MpiCluster>> join_mpi_by(std::unique_ptr<MpiPort> port,
                                                              sys::Executor& executor,
                                                              const sys::Clock& clock,
                                                              MpiOptions options);

}  // namespace strata::transport

#pragma once
// Frames over MPI, for the processes of one job on one cluster. The library is reached through a
// plugin, so that programs run where no MPI is installed. What holds:
//   - one owner, one cluster: any process of the job can say anything as any rank, and nothing is
//     encrypted. Peer::id is the id its dialer() was given, Peer::address "rank 3", and
//     Peer::authenticated false;
//   - rank 0 listens, every rank dials it, rank 0 too; a rank may be many clients, each with
//     connections of its own. In a mesh every rank listens, and dials whom it likes;
//   - ranks that have nothing to say to each other still say that they are there. One that is
//     silent for dead_s is gone: its connections end with kPeer. Rank 0, when it finishes, waits no
//     longer than three heartbeats for the farewell of one that is silent. A send that MPI takes is
//     no delivery, and with a dead rank no call of MPI ever ends: nothing here waits for one;
//   - a rank that was thought dead and speaks again may dial again; to dial one that has finished
//     fails with kInterrupted: it does not come back to this job;
//   - nothing collective after the start; one thread makes every call of MPI.
// The job is started with `mpirun --enable-recovery`, or it ends with its first dead rank.
// Threads: as transport.h says, in one executor's thread; executor and clock outlive the cluster.
// Destroying a listener or dialer ends its connections: none of their handlers is called any more.
#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "sys/clock.h"
#include "transport/transport.h"

namespace strata::transport {

/// Seconds and bytes; a connection that breaks one ends with an error that names it.
struct MpiOptions {
  double join_s = 120;     // for all ranks to have started
  double heartbeat_s = 5;  // silence of ours after which we say something
  double dead_s = 45;      // silence of a rank's
  double close_s = 5;      // what close() gives to what is queued
  double finalize_s = 5;   // what finish() gives to MPI_Finalize
  std::size_t outbox_bytes_max = std::size_t{64} << 20;  // queued on a connection; more is too slow
  std::size_t inbox_bytes_max = std::size_t{64} << 20;   // not yet handled; beyond it, not received
  bool mesh = false;  // all ranks talk to all; the same on every rank
};

/// This process among those of the job. Listeners, dialers and connections may outlive it.
class MpiCluster {
 public:
  /// Ends all connections. Without finish() before, mpirun takes the process's end for a failure.
  virtual ~MpiCluster() = default;
  [[nodiscard]] virtual int rank() const = 0;
  [[nodiscard]] virtual int size() const = 0;
  /// On rank 0, and in a mesh on any.
  [[nodiscard]] virtual std::unique_ptr<Listener> listener() = 0;
  /// Connections to rank `to` as `id`, [a-z0-9][a-z0-9._-]{0,62}. On any rank; to others than rank
  /// 0 in a mesh.
  [[nodiscard]] virtual std::unique_ptr<Dialer> dialer(std::string id, int to) = 0;
  [[nodiscard]] std::unique_ptr<Dialer> dialer(std::string id) { return dialer(std::move(id), 0); }
  /// Closes every connection, says farewell, waits at most `wait_s` for the farewells of the ranks
  /// still there (rank 0 waits for all, the others for rank 0; in a mesh all for all), then leaves
  /// MPI. No handler hears anything any more. False when MPI did not let go within finalize_s: the
  /// files are to be flushed then, and the process left with std::_Exit. Once.
  [[nodiscard]] virtual bool finish(double wait_s) = 0;
  [[nodiscard]] bool finish() { return finish(5); }
  /// Whether that rank has said farewell to this one; false of this one itself.
  [[nodiscard]] virtual bool has_left(int rank) const = 0;
};

/// Loads the plugin and joins the job; returns when all of its ranks have. Once in a process.
/// `plugin`: its file; empty: where find_mpi_plugin() says. kUnsupported: no plugin there, or one
/// of another build; kPeer: MPI did not start. On success MPI is left by finish() only.
[[nodiscard]] Result<std::unique_ptr<MpiCluster>> join_mpi(sys::Executor& executor,
                                                           const sys::Clock& clock,
                                                           const std::filesystem::path& plugin = {},
                                                           MpiOptions options = {});

/// The plugin of the program at `executable`: beside it, else in ../lib/strata/ from there. The
/// first that exists, or the first of the two.
[[nodiscard]] std::filesystem::path find_mpi_plugin(const std::filesystem::path& executable);

/// How this process was started.
struct MpiLaunch {
  std::string by;  // "mpirun", "srun", "a PMI launcher"; empty: by none
  int ranks = 0;   // that the launcher started; 0: there is none
};

/// The value of an environment variable, as std::getenv gives it.
using Environment = std::function<const char*(const char*)>;

/// From the variables of Open MPI, PMI, PMIx and Slurm. kConfig when a count is no count, and when
/// a launcher has left its mark but no count: whether this is one of several processes or the only
/// one then shows nowhere, and several that take themselves for the only one do the work again.
[[nodiscard]] Result<MpiLaunch> detect_launch(const Environment& environment);

/// Whether the job has the ranks that the launcher started. kConfig when not: processes that do not
/// find each other are jobs of one rank each, and no call of MPI says so.
[[nodiscard]] Result<void> check_launch(const MpiLaunch& launch, int size);

}  // namespace strata::transport

#pragma once
// A bad network on one machine: a relay of TCP connections that delays, throttles and stalls the
// bytes of each, and that can be cut, healed and made to reset them. For tests that hold what is
// said of networks against real sockets and processes.
//
//   whoever connects to address()  <->  relay  <->  target       up: towards the target; down: back
//
// What holds:
//   - bytes arrive whole and in order, or the connection ends; an end of one side's bytes (FIN)
//     arrives after them, a reset at once;
//   - no byte is earlier than its shape says. It may be later: a busy machine is no clock. The
//     handshake of TCP itself is the system's and takes no time;
//   - each connection has the shape for itself, as if every client had a line of its own;
//   - of one connection and direction at most `queued_bytes_max` wait here, beside what the system
//     keeps in its sockets; beyond that the relay does not read, and so the sender has to wait.
// Threads: the connections live in a thread of the relay's own. Its functions may be called from
// any other, one after the other, and what they do is done when they return.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace strata::support {

/// What happens to the bytes of one direction, in this order.
struct Shape {
  double bytes_per_s_max = 0;  // on the average from a byte's coming on; 0: no limit
  double delay_ms = 0;         // one way
  /// TCP loses no byte, it sends it again: with this probability a segment of at most 1460 bytes
  /// comes `retransmit_ms` later, and what is behind it waits for it.
  double loss = 0;
  double retransmit_ms = 200;  // the shortest that Linux waits
};

struct RelayOptions {
  std::string target;                // "127.0.0.1:7700", IPv4; need not listen yet
  std::string listen = "127.0.0.1";  // an IPv4 address of this machine; the system chooses the port
  Shape up;
  Shape down;
  std::uint64_t seed = 0;  // of the losses
  std::size_t queued_bytes_max = std::size_t{1} << 20;
};

/// Since the relay began.
struct RelayCounts {
  std::size_t connections = 0;  // taken
  std::size_t up_bytes = 0;     // handed to the target's sockets
  std::size_t down_bytes = 0;
  std::size_t lost_segments = 0;
  std::size_t queued_bytes_most = 0;  // that ever waited of one connection and direction
};

class Relay {
 public:
  /// Listens from now on. Throws std::runtime_error for an address that is none or is taken.
  explicit Relay(RelayOptions options);
  /// Resets what is left.
  ~Relay();
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

  /// "127.0.0.1:41234".
  [[nodiscard]] const std::string& address() const { return address_; }

  /// A partition: no byte and no end passes any more in either direction, and nobody is told. What
  /// is under way waits here, what is sent waits in the sockets. A new connection is taken (the
  /// system does that) and hears nothing; the target does not hear of it.
  void cut();
  /// Bytes flow again, those that waited first; nothing was lost. What came due in the meantime
  /// comes at once.
  void heal();
  /// Every connection that there is ends with a reset at both ends, cut or not.
  void reset();
  /// As when a site's router forgets its connections: the callers' ends are reset, and the target's
  /// stay as they are, silent, until reset() or the relay's end.
  void strand();
  [[nodiscard]] RelayCounts counts() const;

 private:
  class Thread;
  std::unique_ptr<Thread> thread_;
  std::string address_;
};

}  // namespace strata::support

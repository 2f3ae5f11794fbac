#pragma once
// How frames get from one party to another: connections between peers whose names the transport
// vouches for. A transport knows nothing of learning, rounds or what a frame says; what is above it
// knows nothing of sockets. Members of this seam: in_process, tls, mpi.
//
// Threads: every call to a transport, and every call of its to a handler, happens in the thread of
// the executor it was made with.
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "sys/executor.h"
#include "wire/frame.h"

namespace strata::transport {

/// Frame types that transports may use among themselves; handlers neither send nor see them.
inline constexpr std::uint16_t kPing = 1;
inline constexpr std::uint16_t kPong = 2;

/// Who is at the other end.
struct Peer {
  std::string id;              // [a-z0-9][a-z0-9._-]{0,62}
  std::string address;         // for people: "203.0.113.5:40112", "rank 3", "this process"
  bool authenticated = false;  // by a certificate; else the transport was told by somebody trusted
};

/// One conversation. Held by whoever uses it; letting go of it closes it.
class Connection {
 public:
  virtual ~Connection() = default;
  [[nodiscard]] virtual const Peer& peer() const = 0;
  /// Queues a frame; frames arrive in order, each once, or the connection ends. The transport sets
  /// the sequence number. Ignored on a connection that has ended.
  virtual void send(wire::Frame frame) = 0;
  /// Bytes queued and not yet handed to the network.
  [[nodiscard]] virtual std::size_t unsent_bytes() const = 0;
  /// The peer is known and welcome: it may send frames of every size from now on.
  virtual void trust() = 0;
  /// Ends it once what is queued is sent, or after a few seconds. The handler hears nothing more.
  virtual void close() = 0;
};

/// What happens on connections. No call comes from within send(), trust() or close().
class Handler {
 public:
  virtual ~Handler() = default;
  virtual void on_open(const std::shared_ptr<Connection>& connection) = 0;
  virtual void on_frame(Connection& connection, wire::Frame frame) = 0;
  /// It has ended, by the peer or by a fault: kPeer gone, silent or too slow; kProtocol broken
  /// bytes; kAuth refused. Last call about this connection.
  virtual void on_end(Connection& connection, const Error& why) = 0;
};

/// Accepts connections.
class Listener {
 public:
  virtual ~Listener() = default;
  /// From now on `handler` (borrowed, outlives the listener) hears of connections. kPeer when the
  /// address cannot be listened on.
  [[nodiscard]] virtual Result<void> listen(Handler& handler) = 0;
  /// Takes no new connections any more.
  virtual void stop() = 0;
  /// Where peers reach it: "127.0.0.1:7700", with the port that was chosen when 0 was asked for.
  [[nodiscard]] virtual std::string address() const = 0;
};

/// Makes connections to one coordinator.
class Dialer {
 public:
  virtual ~Dialer() = default;
  /// Tries once. Then calls handler.on_open, or `failed` with kPeer (worth another try) or kAuth
  /// (not worth one).
  virtual void dial(Handler& handler, std::function<void(const Error&)> failed) = 0;
};

}  // namespace strata::transport

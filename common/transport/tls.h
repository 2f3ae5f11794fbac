#pragma once
// Frames over TCP and TLS 1.3, for machines that know each other by certificates of one federation
// and by nothing else. Both sides prove who they are; there is no other mode. What holds:
//   - only the federation's own authority is believed; every connection is verified whole (no
//     sessions, tickets or early data); ALPN is strata/1;
//   - the listener is a coordinator, the dialer a client or admin; the dialer also checks the host;
//   - Peer::id is the id in the certificate, and Peer::authenticated is true;
//   - a dialer's connection opens once the coordinator has said something, so that a refusal of our
//     certificate, which TLS 1.3 tells only then, is a failure of dial() and says why;
//   - trust() does nothing on a dialer's connection: a coordinator has proved its role;
//   - an end without TLS's own farewell is `stream truncated`, never an orderly end.
// Threads: as transport.h says, in one executor's thread; sockets live in a thread of their own.
// The executor, the clock and the disk outlive both. Destroying a listener or dialer ends its
// connections: none of their handlers is called any more, and what close() was called on before is
// still sent, for limits.close_s at most.
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/hash.h"
#include "certs/node.h"
#include "sys/clock.h"
#include "sys/disk.h"
#include "transport/transport.h"

namespace strata::transport {

/// Seconds, bytes and counts; a connection that breaks one ends with an error that names it.
struct TlsLimits {
  double connect_s = 10;            // to find the host and to be connected
  double handshake_s = 10;          // from connected to known
  double first_frame_s = 10;        // from known to the first whole frame, unless trusted before
  double heartbeat_s = 15;          // silence of ours after which we say something
  double dead_s = 45;               // silence of the peer's, or bytes it does not take
  double close_s = 5;               // what close() gives to what is queued
  double rate_bytes_per_s = 65536;  // at least, once a frame has begun ...
  double rate_window_s = 30;        // ... on the average of such a time
  std::size_t outbox_bytes_max = std::size_t{64} << 20;  // queued for a peer; more is too slow
  std::size_t inbox_bytes_max = std::size_t{16} << 20;   // not yet handled; beyond it, not read
  // Of a listener:
  int unknown_max = 64;             // connections whose peer is not known yet
  int unknown_per_address_max = 4;  // the same from one address (IPv6: one /64)
  double connects_per_s = 10;       // new connections from one address, on the average
  double connects_burst = 20;       // and at once
  double reload_s = 60;             // how often changed files are looked for; 0: never
};

struct TlsOptions {
  /// "host:port", "[::1]:7700". A listener's may have port 0; a dialer's host is checked against
  /// the certificate.
  std::string address;
  certs::NodeFiles files;
  /// Listener: ids that may connect; empty: every id of the federation.
  std::vector<std::string> allowed;
  /// Listener: by id, SHA-256 of the one public key (SubjectPublicKeyInfo) that it may have. An
  /// authority that signs another key for that id opens no door.
  std::map<std::string, Sha256> keys = {};
  TlsLimits limits;
  /// Listener: hears, in the executor's thread, who was not let in and why, and of new files that
  /// cannot be used. Floods are told once a minute and address. May be empty.
  std::function<void(const Error&)> refused;
  /// Listener: hears, in the executor's thread, that changed files are in use, and once a day what
  /// of them runs out within 30 days. May be empty.
  std::function<void(const std::string&)> noticed;
};

class TlsListener : public Listener {
 public:
  /// Reads the files again now. New connections are judged by them; live ones that they no longer
  /// admit (revoked, another authority) end with kAuth. On an error nothing changes.
  [[nodiscard]] virtual Result<void> reload() = 0;
};

/// Reads and checks all files: kAuth, kFileMissing, kIo; kConfig for an address of another form.
[[nodiscard]] Result<std::unique_ptr<TlsListener>> make_tls_listener(sys::Executor& executor,
                                                                     const sys::Clock& clock,
                                                                     const sys::Disk& disk,
                                                                     TlsOptions options);

/// dial() may be called again at any time, also while an attempt is under way. Reads the files at
/// every attempt: a renewed certificate needs no restart.
[[nodiscard]] Result<std::unique_ptr<Dialer>> make_tls_dialer(sys::Executor& executor,
                                                              const sys::Clock& clock,
                                                              const sys::Disk& disk,
                                                              TlsOptions options);

}  // namespace strata::transport

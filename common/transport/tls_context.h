#pragma once
// The settings of TLS, and the judgement on a peer's certificate. For the files tls_*.cpp only.
// Threads: a context does not change after load(); a PeerCheck belongs to its connection's thread.
#include <openssl/ssl.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "certs/x509.h"
#include "transport/tls.h"

namespace strata::transport {

using SslPtr = std::unique_ptr<SSL, certs::Freed<SSL_free>>;
using SslContextPtr = std::unique_ptr<SSL_CTX, certs::Freed<SSL_CTX_free>>;

/// Seconds since 1970 by the wall clock.
[[nodiscard]] std::int64_t wall_seconds(const sys::Clock& clock);

class TlsContext;

/// What OpenSSL's verification and our rules make of the peer's certificate. Lies still while its
/// SSL object lives.
struct PeerCheck {
  std::shared_ptr<const TlsContext> context;
  const sys::Clock* clock = nullptr;
  std::string where;                    // the peer's address, for messages
  std::optional<certs::Identity> peer;  // when it is sound
  std::optional<Error> refused;         // when it is not
};

class TlsContext {
 public:
  /// Reads and checks the files of `options`. `own`: the role we play; a dialer (kClient) may be an
  /// admin too.
  [[nodiscard]] static Result<std::shared_ptr<const TlsContext>> load(const sys::Disk& disk,
                                                                      const sys::Clock& clock,
                                                                      const TlsOptions& options,
                                                                      certs::Role own);

  /// A new connection on `socket`, judged into `check`. `host`: whom a dialer calls. Null when out
  /// of memory.
  [[nodiscard]] SslPtr connection(int socket, const std::string& host, PeerCheck& check) const;

  /// After the handshake: whether ALPN, verification and certificate are what they must be. The
  /// error is also what an earlier failure of the handshake is best told with.
  [[nodiscard]] static Result<certs::Identity> judge(SSL& ssl, const PeerCheck& check);

  /// Whether a live connection's peer would still be let in, but for the running of time.
  [[nodiscard]] Result<void> recheck(X509& peer, const std::string& where) const;

  [[nodiscard]] const certs::Identity& own() const { return own_; }

 private:
  TlsContext() = default;
  [[nodiscard]] Result<void> set_up(certs::Node node);
  [[nodiscard]] Result<void> admits(const certs::Identity& peer, const std::string& where) const;
  static int on_verify(int sound, X509_STORE_CTX* store);
  [[nodiscard]] int judge_certificate(X509_STORE_CTX& store, PeerCheck& check) const;

  SslContextPtr ssl_;
  certs::StorePtr store_;
  certs::Identity own_;
  bool listens_ = false;
  std::vector<std::string> allowed_;
  std::map<std::string, Sha256> keys_;  // that ids must have
};

}  // namespace strata::transport

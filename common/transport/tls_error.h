#pragma once
// What went wrong on a TLS connection, in words that say what to do: from OpenSSL's reasons, alerts
// and the operating system's numbers. For the files tls_*.cpp only.
#include <openssl/ssl.h>

#include <string>

#include "base/error.h"

namespace strata::transport {

/// At which end of a connection we are, and how far it has come.
enum class TlsStage {
  kAccepting,  // the handshake, as a listener
  kDialing,    // the handshake, as a dialer
  kGreeting,   // done, as a dialer that has not heard anything yet
  kOpen,       // both know each other
};

/// Why an SSL call gave `ssl_error` (SSL_get_error), with `number` the errno right after it. Takes
/// everything from OpenSSL's error queue. kAuth for anything about who somebody is; kPeer when the
/// peer is gone; kProtocol for bytes that are not TLS on an open connection.
[[nodiscard]] Error tls_error(TlsStage stage, int ssl_error, int number, const std::string& where);

/// `alert` (RFC 8446, section 6) that a coordinator sent about our certificate.
[[nodiscard]] Error refusal_of_ours(int alert, const std::string& where);

}  // namespace strata::transport

#pragma once
// Whether an authority made a certificate, and whether it is valid. For this room only.
#include "certs/identity.h"
#include "certs/x509.h"

namespace strata::certs {

/// `at`: seconds since 1970; `crl` may be null. kAuth in plain words with `where`.
[[nodiscard]] Result<void> check_chain(X509& certificate, X509& ca, X509_CRL* crl, Role role,
                                       const std::string& where, std::int64_t at);

/// That `crl`, which `ca` signed and which is current at `now`, does not name the certificate. A
/// certificate that is named is refused whenever it was revoked: a time that its holder wrote
/// proves nothing. kAuth as above.
[[nodiscard]] Result<void> check_not_revoked(X509& certificate, X509& ca, X509_CRL& crl,
                                             const std::string& where, std::int64_t now);

}  // namespace strata::certs

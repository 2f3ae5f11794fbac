#pragma once
// Certificates, requests and lists of revoked ones as they are made and signed. For this room only.
#include <cstdint>
#include <string>
#include <vector>

#include "certs/x509.h"

namespace strata::certs {

inline constexpr std::int64_t kDaySeconds = 86400;
inline constexpr int kLeafDaysMax = 397;
inline constexpr int kAuthorityDaysMax = 3650;
/// Certificates are valid from this long before they were made: clocks differ.
inline constexpr std::int64_t kBackdatedSeconds = 3600;

/// The authority's own. `now`: seconds since 1970. All of these are null or kInternal only when the
/// library refuses.
[[nodiscard]] Result<CertificatePtr> make_authority(EVP_PKEY& key, const std::string& federation,
                                                    bool demo, std::int64_t now, int days);

/// A request for the holder of `key` to be `identity` (federation, role, id, hosts, demo).
[[nodiscard]] Result<std::string> make_request_pem(EVP_PKEY& key, const Identity& identity);

/// A leaf for `holder` (serial and times are set here and returned in it) signed by the authority;
/// its end is cut to the authority's own.
[[nodiscard]] Result<CertificatePtr> make_leaf(X509& ca, EVP_PKEY& ca_key, EVP_PKEY& public_key,
                                               const Identity& holder, std::int64_t now, int days);

struct Revoked {
  std::string serial;   // hexadecimal
  std::int64_t at = 0;  // seconds since 1970
  int reason = 0;       // of RFC 5280
};

[[nodiscard]] Result<std::string> make_crl_pem(X509& ca, EVP_PKEY& ca_key,
                                               const std::vector<Revoked>& revoked,
                                               std::int64_t number, std::int64_t now, int days);

}  // namespace strata::certs

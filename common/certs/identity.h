#pragma once
// Who a certificate says somebody is. In strata that is one name in one place: the subject
// alternative name
//     strata://<federation>/<role>/<id>
// of which there is exactly one, and whose id is the common name too. Values; no thread rules.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/hash.h"
#include "base/result.h"

namespace strata::certs {

enum class Role {
  kCoordinator,  // accepts connections: EKU serverAuth, and host names
  kClient,       // makes them: EKU clientAuth
  kAdmin,        // the same, with rights of its own
};

/// "coordinator", "client", "admin".
[[nodiscard]] std::string_view name(Role role);
[[nodiscard]] std::optional<Role> role_of(std::string_view text);

/// Whether `text` may name a party or a federation: [a-z0-9][a-z0-9._-]{0,62}.
[[nodiscard]] bool valid_id(std::string_view text);
/// Whether `text` may be a host in a certificate: a DNS name without wildcards, or an IP address.
[[nodiscard]] bool valid_host(std::string_view text);
[[nodiscard]] bool is_ip_address(std::string_view text);

/// What every certificate of a federation says about its holder.
struct Identity {
  std::string federation;
  Role role = Role::kClient;
  std::string id;
  std::vector<std::string> hosts;  // DNS names and addresses, of a coordinator
  Sha256 spki{};                   // SHA-256 of the public key: the same key gives the same value
  std::string serial;              // hexadecimal, lower case
  std::int64_t not_before = 0;     // seconds since 1970, UTC
  std::int64_t not_after = 0;
  bool demo = false;  // made by `strata certs demo`, whose keys are worth nothing
};

/// "strata://demo/client/clinic-a"
[[nodiscard]] std::string uri_of(const Identity& identity);

/// A uri of that form into federation, role and id; nothing when it has another form.
[[nodiscard]] std::optional<Identity> parse_uri(std::string_view uri);

/// "2026-01-31T12:34:56Z" from seconds since 1970, and back; nothing for another form.
[[nodiscard]] std::string utc_text(std::int64_t seconds);
[[nodiscard]] std::optional<std::int64_t> parse_utc(std::string_view text);

}  // namespace strata::certs

#pragma once
// What an authority has signed: issued.json in its folder. Small, read whole and written whole and
// atomically. For this room and for commands that show it.
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "certs/identity.h"
#include "sys/disk.h"

namespace strata::certs {

/// Why a certificate is taken back; the numbers are those of RFC 5280.
enum class Reason {
  kUnspecified = 0,
  kKeyCompromise = 1,
  kSuperseded = 4,
  kCessationOfOperation = 5,
};
/// "unspecified", "key_compromise", "superseded", "cessation_of_operation".
[[nodiscard]] std::string_view name(Reason reason);
[[nodiscard]] std::optional<Reason> reason_of(std::string_view text);

struct IssuedCertificate {
  std::string id;
  Role role = Role::kClient;
  std::string serial;       // hexadecimal
  std::string spki_sha256;  // hexadecimal
  std::int64_t not_before = 0;
  std::int64_t not_after = 0;
  std::optional<std::int64_t> revoked_at;  // seconds since 1970
  Reason reason = Reason::kUnspecified;
};

struct IssuedIndex {
  std::string federation;
  std::int64_t crl_number = 0;  // of the last list of revoked certificates; grows by one
  std::vector<IssuedCertificate> certificates;  // in the order they were signed
};

/// kFileMissing, or kDamaged when it is not what was written.
[[nodiscard]] Result<IssuedIndex> read_index(const sys::Disk& disk,
                                             const std::filesystem::path& path);
[[nodiscard]] Result<void> write_index(sys::Disk& disk, const std::filesystem::path& path,
                                       const IssuedIndex& index);

}  // namespace strata::certs

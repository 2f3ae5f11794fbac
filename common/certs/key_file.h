#pragma once
// Private keys and the rules of their files: a regular file (no link), of the user who runs the
// program, readable by nobody else. A key is written once and never travels.
#include <filesystem>

#include "certs/x509.h"

namespace strata::certs {

enum class KeyType { kEd25519, kP256 };

/// Null when the library refuses.
[[nodiscard]] KeyPtr make_key(KeyType type);

/// Writes a new file of mode 0600. kFileExists when something has that name: a key is never
/// replaced.
[[nodiscard]] Result<void> write_key(const EVP_PKEY& key, const std::filesystem::path& path);

/// kFileMissing when there is none; kAuth when the file breaks a rule (with the command that mends
/// it) or holds no key that strata takes.
[[nodiscard]] Result<KeyPtr> read_key(const std::filesystem::path& path);

}  // namespace strata::certs

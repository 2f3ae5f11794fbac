#pragma once
// A party's own side: a folder with its key and what others need to believe it.
//     identity.key  0600, made here, never leaves the machine
//     identity.crt  from the authority
//     ca.crt        the authority's certificate, taken only with its fingerprint
//     crl.pem       of a coordinator: the list of revoked certificates
// Times are handed in (`now`, seconds since 1970, UTC). No thread rules.
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "certs/key_file.h"
#include "sys/disk.h"

namespace strata::certs {

/// Where a party's files are. `crl` may be empty: then nothing is looked up.
struct NodeFiles {
  std::filesystem::path ca;
  std::filesystem::path certificate;
  std::filesystem::path key;
  std::filesystem::path crl;
};

/// The files of `folder` by the names above; crl.pem when it is there.
[[nodiscard]] NodeFiles files_in(const sys::Disk& disk, const std::filesystem::path& folder);

struct Requested {
  std::filesystem::path path;  // the request, to be sent to the authority
  Sha256 spki{};               // told to the authority by another way than the file
};

/// Makes folder/identity.key and folder/<id>.csr. kUsage for bad names, kFileExists when there is a
/// key already and `renew` is not set: then the request is for that key again.
[[nodiscard]] Result<Requested> request(sys::Disk& disk, const std::filesystem::path& folder,
                                        const Identity& identity, KeyType type, bool renew);

/// Puts what the authority sent (certificate and the authority's own, in one file) into the folder
/// of its key. `ca_fingerprint`: 64 hexadecimal digits, colons allowed. kAuth when anything does
/// not fit.
[[nodiscard]] Result<Identity> install(sys::Disk& disk, const std::filesystem::path& received,
                                       const std::filesystem::path& folder,
                                       const std::string& ca_fingerprint, std::int64_t now);

/// What a party starts with, read and checked.
struct Node {
  KeyPtr key;
  CertificatePtr certificate;
  CertificatePtr ca;
  CrlPtr crl;  // null when none is configured
  Identity identity;
};

/// Reads and checks everything at once: key file, key and certificate, chain, times, list of
/// revoked certificates, role when one is given. The first thing wrong, as one kAuth line (or
/// kFileMissing).
[[nodiscard]] Result<Node> load_node(const sys::Disk& disk, const NodeFiles& files,
                                     std::optional<Role> role, std::int64_t now);

/// What of these runs out within 30 days, one line each: certificate, authority, list of revoked
/// certificates.
[[nodiscard]] std::vector<std::string> expiring(const Node& node, const NodeFiles& files,
                                                std::int64_t now);

}  // namespace strata::certs

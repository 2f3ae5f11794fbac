#pragma once
// A federation's certificate authority: a folder on a machine of a person who knows the parties.
//     ca.key       0600, never leaves the folder
//     ca.crt       for everybody; its fingerprint is told by another way than the file
//     issued.json  what was signed and taken back
//     crl.pem      the list of revoked certificates, for the coordinator
// Times are handed in (`now`, seconds since 1970, UTC). Errors: kAuth for what the authority's
// rules refuse; kFileMissing, kIo, kDamaged from the folder. Not thread-safe; one process at a
// time.
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "certs/issued.h"
#include "certs/key_file.h"
#include "sys/disk.h"

namespace strata::certs {

struct AuthorityOptions {
  std::string federation;
  int days = 3650;  // at most ten years
  KeyType key_type = KeyType::kEd25519;
  bool demo = false;
};

struct ApproveOptions {
  std::string expect_id;             // who the person thinks is asking; not taken from the request
  Role expect_role = Role::kClient;  // and as what
  int days = 365;                    // at most 397
  bool rekey = false;                // the id may come with a new key; its old ones are revoked
};

struct Approved {
  Identity identity;
  std::string pem;  // the certificate, then the authority's own: one file to send back
  std::vector<std::string> revoked;  // serials taken back by a rekey
};

struct Revocation {
  std::vector<std::string> serials;  // taken back now; empty when the list was only renewed
  std::int64_t crl_number = 0;
  std::int64_t valid_until = 0;
};

class Authority {
 public:
  static constexpr int kCrlDays = 90;

  /// Makes the folder with a new key. kFileExists when one is there, kUsage for a bad name or time.
  [[nodiscard]] static Result<Authority> init(sys::Disk& disk, const std::filesystem::path& folder,
                                              const AuthorityOptions& options, std::int64_t now);
  /// Of an authority that init() made.
  [[nodiscard]] static Result<Authority> open(sys::Disk& disk, const std::filesystem::path& folder);

  [[nodiscard]] const std::string& federation() const { return index_.federation; }
  [[nodiscard]] const IssuedIndex& index() const { return index_; }
  /// SHA-256 of the authority's certificate.
  [[nodiscard]] Sha256 fingerprint() const;
  [[nodiscard]] std::int64_t not_after() const;
  [[nodiscard]] std::filesystem::path crl_path() const { return folder_ / "crl.pem"; }

  /// Signs a request. Refused: another federation, id or role than expected, a key type that strata
  /// does not take, a key of another id or a revoked one, and an id that has another key already
  /// unless `rekey`. The index has it on disk before this returns.
  [[nodiscard]] Result<Approved> approve(const std::filesystem::path& request,
                                         const ApproveOptions& options, std::int64_t now);

  /// Takes back every certificate of `id` (again, if that was done before) and writes a new
  /// crl.pem, valid `crl_days`. With an empty `id` only the list is renewed, which has to happen
  /// before it runs out.
  [[nodiscard]] Result<Revocation> revoke(const std::string& id, Reason reason, std::int64_t now,
                                          int crl_days = kCrlDays);

 private:
  Authority(sys::Disk& disk, std::filesystem::path folder, KeyPtr key, CertificatePtr certificate,
            IssuedIndex index)
      : disk_(&disk),
        folder_(std::move(folder)),
        key_(std::move(key)),
        certificate_(std::move(certificate)),
        index_(std::move(index)) {}

  [[nodiscard]] Result<void> check_holder(const Identity& asked, const std::string& where,
                                          const ApproveOptions& options) const;
  [[nodiscard]] Result<void> check_key_is_new(const Identity& asked, const std::string& where,
                                              bool rekey) const;
  [[nodiscard]] Result<void> write_crl(std::int64_t now, int days);

  sys::Disk* disk_;
  std::unique_ptr<sys::FileLock> lock_;  // one process at a time works on the folder
  std::filesystem::path folder_;
  KeyPtr key_;
  CertificatePtr certificate_;
  IssuedIndex index_;
};

}  // namespace strata::certs

#pragma once
// Rows known again. Each is named by a keyed hash, HMAC-SHA256 with a key that stays with the
// data's owner, so that the names say nothing to anybody else. The whole set is named by the root
// of a Merkle tree over the sorted names: shuffling changes nothing. Eight bytes of each name are
// kept to find rows that two sets share.
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/hash.h"
#include "base/result.h"
#include "sys/disk.h"

namespace strata::ledger {

struct Fingerprint {
  Sha256 root{};
  std::uint64_t rows = 0;
  std::vector<std::uint64_t> prefixes;  // ascending, each once
};

class RowKey {
 public:
  /// From OpenSSL's private generator. kIo when it gives nothing.
  [[nodiscard]] static Result<RowKey> draw();
  /// Reads what write() wrote; kFileMissing, or kDamaged for anything else.
  [[nodiscard]] static Result<RowKey> read(const sys::Disk& disk,
                                           const std::filesystem::path& path);
  /// To a file for its owner only, which is sure to last.
  [[nodiscard]] Result<void> write(sys::Disk& disk, const std::filesystem::path& path) const;

  [[nodiscard]] Sha256 hmac(std::string_view text) const;
  /// Tells keys apart without giving them away.
  [[nodiscard]] std::string id() const;

  RowKey(const RowKey&) = default;
  RowKey& operator=(const RowKey&) = default;
  ~RowKey();  // wipes

 private:
  RowKey() = default;
  Sha256 bytes_{};
};

/// 16 bytes of OpenSSL's private generator as 32 digits, so that the hash of what they stand in can
/// not be guessed at. kIo when it gives nothing.
[[nodiscard]] Result<std::string> draw_nonce();

/// The rows of one set, in any order. A row is the record's canonical text as its owner has it,
/// from before any tokenizer; what counts as canonical is the caller's, and must not change.
class Fingerprinter {
 public:
  explicit Fingerprinter(const RowKey& key) : key_(key) {}
  void add(std::string_view row) { names_.push_back(key_.hmac(row)); }
  /// Root as in RFC 6962, section 2.1, over the sorted names.
  [[nodiscard]] Fingerprint finish() &&;

 private:
  RowKey key_;
  std::vector<Sha256> names_;
};

/// The prefixes as a file, sorted and little-endian; read_prefixes is kDamaged unless the file has
/// the hash `expected`.
[[nodiscard]] Bytes prefix_bytes(const Fingerprint& fingerprint);
[[nodiscard]] Result<std::vector<std::uint64_t>> read_prefixes(const sys::Disk& disk,
                                                               const std::filesystem::path& path,
                                                               const Sha256& expected);

}  // namespace strata::ledger

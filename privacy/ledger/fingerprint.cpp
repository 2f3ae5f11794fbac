#include "privacy/ledger/fingerprint.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace strata::ledger {
namespace {

constexpr std::size_t kKeyFileBytes = 65;  // 64 digits and a newline

Sha256 leaf_of(const Sha256& name) {
  Hasher hasher;
  hasher.add(std::string_view("\0", 1));
  hasher.add(name);
  return hasher.finish();
}

Sha256 node_of(const Sha256& left, const Sha256& right) {
  Hasher hasher;
  hasher.add("\1");
  hasher.add(left);
  hasher.add(right);
  return hasher.finish();
}

// A node without a neighbour goes up as it is: the tree of RFC 6962.
Sha256 root_of(std::vector<Sha256> level) {
  if (level.empty()) return sha256({});
  while (level.size() > 1) {
    std::vector<Sha256> up;
    up.reserve((level.size() + 1) / 2);
    for (std::size_t i = 0; i + 1 < level.size(); i += 2)
      up.push_back(node_of(level[i], level[i + 1]));
    if (level.size() % 2 == 1) up.push_back(level.back());
    level = std::move(up);
  }
  return level.front();
}

Error damaged(const std::filesystem::path& path, std::string what) {
  return {.code = ErrorCode::kDamaged,
          .what = std::move(what),
          .where = path.string(),
          .rule = "a ledger knows its rows by this file",
          .remedy = "restore it from a copy"};
}

Result<void> draw_bytes(Sha256& out) {
  if (RAND_priv_bytes(reinterpret_cast<unsigned char*>(out.data()), static_cast<int>(out.size())) ==
      1)
    return {};
  return fail({.code = ErrorCode::kIo,
               .what = "OpenSSL's private random generator gives nothing",
               .remedy = "check the machine's OpenSSL configuration"});
}

}  // namespace

Result<RowKey> RowKey::draw() {
  RowKey out;
  if (auto drawn = draw_bytes(out.bytes_); !drawn) return fail(std::move(drawn).error());
  return out;
}

Result<std::string> draw_nonce() {
  Sha256 bytes{};  // of which half is used
  if (auto drawn = draw_bytes(bytes); !drawn) return fail(std::move(drawn).error());
  return hex(bytes).substr(0, 32);
}

RowKey::~RowKey() { OPENSSL_cleanse(bytes_.data(), bytes_.size()); }

Result<RowKey> RowKey::read(const sys::Disk& disk, const std::filesystem::path& path) {
  auto text = disk.read_text(path);
  if (!text) return fail(std::move(text).error());
  RowKey out;
  const std::span<char> all(*text);
  const bool whole = all.size() == kKeyFileBytes && all.back() == '\n';
  const auto bytes = whole ? unhex({all.data(), all.size() - 1}) : std::nullopt;
  OPENSSL_cleanse(all.data(), all.size());
  if (!bytes) return fail(damaged(path, "is not a key of rows"));
  out.bytes_ = *bytes;
  return out;
}

Result<void> RowKey::write(sys::Disk& disk, const std::filesystem::path& path) const {
  auto file = disk.open(path);
  if (!file) return fail(std::move(file).error());
  std::string text = hex(bytes_) + "\n";
  auto done = (*file)->resize(0);
  if (done) done = (*file)->write(0, bytes_of(text));
  if (done) done = (*file)->sync();
  OPENSSL_cleanse(text.data(), text.size());
  return done;
}

Sha256 RowKey::hmac(std::string_view text) const {
  Sha256 out;
  unsigned length = 0;
  check(HMAC(EVP_sha256(), bytes_.data(), static_cast<int>(bytes_.size()),
             reinterpret_cast<const unsigned char*>(text.data()), text.size(),
             reinterpret_cast<unsigned char*>(out.data()), &length) != nullptr &&
            length == out.size(),
        "HMAC-SHA256 is available");
  return out;
}

std::string RowKey::id() const { return hex(hmac("strata key of rows")).substr(0, 16); }

Fingerprint Fingerprinter::finish() && {
  std::sort(names_.begin(), names_.end());
  Fingerprint out;
  out.rows = names_.size();
  std::vector<Sha256> leaves;
  leaves.reserve(names_.size());
  for (const auto& name : names_) {
    leaves.push_back(leaf_of(name));
    std::uint64_t prefix = 0;
    std::memcpy(&prefix, name.data(), sizeof prefix);
    out.prefixes.push_back(prefix);
  }
  out.root = root_of(std::move(leaves));
  std::sort(out.prefixes.begin(), out.prefixes.end());
  out.prefixes.erase(std::unique(out.prefixes.begin(), out.prefixes.end()), out.prefixes.end());
  return out;
}

Bytes prefix_bytes(const Fingerprint& fingerprint) {
  ByteWriter out;
  out.raw(std::as_bytes(std::span(fingerprint.prefixes)));
  return std::move(out).take();
}

Result<std::vector<std::uint64_t>> read_prefixes(const sys::Disk& disk,
                                                 const std::filesystem::path& path,
                                                 const Sha256& expected) {
  auto file = disk.map(path);
  if (!file) {
    if (file.error().code != ErrorCode::kFileMissing) return fail(std::move(file).error());
    return fail(damaged(path, "is gone"));
  }
  const ByteSpan bytes = (*file)->bytes();
  if (sha256(bytes) != expected) return fail(damaged(path, "is not what was written"));
  std::vector<std::uint64_t> out(bytes.size() / sizeof(std::uint64_t));
  if (!out.empty()) std::memcpy(out.data(), bytes.data(), out.size() * sizeof(std::uint64_t));
  return out;
}

}  // namespace strata::ledger

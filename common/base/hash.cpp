#include "base/hash.h"

#include <openssl/evp.h>

#include "base/result.h"

namespace strata {

struct Hasher::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  State() {
    check(context != nullptr && EVP_DigestInit_ex(context, EVP_sha256(), nullptr) == 1,
          "SHA-256 is not available");
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { EVP_MD_CTX_free(context); }
};

Hasher::Hasher() : state_(std::make_unique<State>()) {}
Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;
Hasher::~Hasher() = default;

void Hasher::add(std::span<const std::byte> bytes) {
  check(EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()) == 1,
        "SHA-256 update failed");
}

void Hasher::add(std::string_view text) { add(std::as_bytes(std::span(text.data(), text.size()))); }

Sha256 Hasher::finish() {
  Sha256 out;
  check(EVP_DigestFinal_ex(state_->context, reinterpret_cast<unsigned char*>(out.data()),
                           nullptr) == 1,
        "SHA-256 final failed");
  return out;
}

Sha256 sha256(std::span<const std::byte> bytes) {
  Hasher hasher;
  hasher.add(bytes);
  return hasher.finish();
}

std::string hex(const Sha256& hash) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out;
  for (const std::byte b : hash) {
    out += kDigits[std::to_integer<unsigned>(b) >> 4];
    out += kDigits[std::to_integer<unsigned>(b) & 15];
  }
  return out;
}

}  // namespace strata

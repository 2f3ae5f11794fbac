#include "certs/signed_text.h"

#include <openssl/evp.h>
#include <openssl/pem.h>

#include <vector>

#include "certs/chain.h"

namespace strata::certs {
namespace {

using DigestPtr = std::unique_ptr<EVP_MD_CTX, Freed<EVP_MD_CTX_free>>;
using Octets = std::vector<unsigned char>;

// Ed25519 hashes on its own.
const EVP_MD* digest_of(const EVP_PKEY& key) {
  return EVP_PKEY_get_base_id(&key) == EVP_PKEY_ED25519 ? nullptr : EVP_sha256();
}

const unsigned char* bytes(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

std::string base64(const Octets& data) {
  std::string out(4 * ((data.size() + 2) / 3) + 1, '\0');
  const int n = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()), data.data(),
                                static_cast<int>(data.size()));
  out.resize(static_cast<std::size_t>(n));
  return out;
}

// Empty for what is no base64.
Octets from_base64(const std::string& text) {
  Octets out(text.size());
  const int n = EVP_DecodeBlock(out.data(), bytes(text), static_cast<int>(text.size()));
  if (n < 0 || text.empty()) return {};
  std::size_t padding = 0;
  while (padding < 2 && text[text.size() - 1 - padding] == '=') ++padding;
  out.resize(static_cast<std::size_t>(n) - padding);
  return out;
}

// An encrypted one would ask at the terminal.
int no_passphrase(char*, int, int, void*) { return 0; }

CertificatePtr from_pem(const std::string& text) {
  const BioPtr in(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  CertificatePtr out(in ? PEM_read_bio_X509(in.get(), nullptr, no_passphrase, nullptr) : nullptr);
  (void)drain_errors();
  return out;
}

Error refused(const std::string& where, std::string what, std::string rule) {
  return {.code = ErrorCode::kAuth,
          .what = std::move(what),
          .where = where,
          .rule = std::move(rule),
          .remedy = "ask its sender for the file as it was written"};
}

}  // namespace

Result<SignedText> sign_text(Node& node, std::string_view text) {
  const DigestPtr context(EVP_MD_CTX_new());
  std::size_t size = 0;
  Octets signature;
  const bool made = context &&
                    EVP_DigestSignInit(context.get(), nullptr, digest_of(*node.key), nullptr,
                                       node.key.get()) == 1 &&
                    EVP_DigestSign(context.get(), nullptr, &size, bytes(text), text.size()) == 1 &&
                    (signature.resize(size), EVP_DigestSign(context.get(), signature.data(), &size,
                                                            bytes(text), text.size()) == 1);
  if (!made)
    return fail({.code = ErrorCode::kInternal, .what = "signing failed: " + drain_errors()});
  signature.resize(size);
  return SignedText{.signature = base64(signature), .certificate = pem_of(*node.certificate)};
}

Result<Identity> check_signed_text(const sys::Disk& disk, std::string_view text,
                                   const SignedText& with, const TrustFiles& trust, std::int64_t at,
                                   const std::string& where) {
  const CertificatePtr certificate = from_pem(with.certificate);
  if (!certificate)
    return fail(refused(where, "has no certificate in it", "it comes with its signer's"));
  auto identity = identity_of(*certificate, where);
  if (!identity) return fail(std::move(identity).error());
  auto authorities = read_certificates(disk, trust.ca);
  if (!authorities) return fail(std::move(authorities).error());
  if (auto chain =
          check_chain(*certificate, *authorities->front(), nullptr, identity->role, where, at);
      !chain)
    return fail(std::move(chain).error());
  if (!trust.crl.empty()) {
    auto crl = read_crl(disk, trust.crl);
    if (!crl) return fail(std::move(crl).error());
    if (auto valid =
            check_not_revoked(*certificate, *authorities->front(), **crl, where, trust.now);
        !valid)
      return fail(std::move(valid).error());
  }
  EVP_PKEY* key = X509_get0_pubkey(certificate.get());
  const DigestPtr context(EVP_MD_CTX_new());
  const Octets signature = from_base64(with.signature);
  const bool right =
      key != nullptr && context && !signature.empty() &&
      EVP_DigestVerifyInit(context.get(), nullptr, digest_of(*key), nullptr, key) == 1 &&
      EVP_DigestVerify(context.get(), signature.data(), signature.size(), bytes(text),
                       text.size()) == 1;
  (void)drain_errors();
  if (!right) {
    return fail(refused(where, "is not what " + described(*certificate) + " signed",
                        "not a byte of a signed text changes"));
  }
  return *identity;
}

}  // namespace strata::certs

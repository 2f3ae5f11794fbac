#pragma once
// OpenSSL's objects as values of ours: owned, read from PEM, and read for who they name. For this
// room and for transports; others need only certs/authority.h and certs/node.h.
// Threads: none of these objects may be used by two threads at once.
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "certs/identity.h"
#include "sys/disk.h"

namespace strata::certs {

template <auto Free>
struct Freed {
  template <class T>
  void operator()(T* object) const {
    Free(object);
  }
};
using CertificatePtr = std::unique_ptr<X509, Freed<X509_free>>;
using CrlPtr = std::unique_ptr<X509_CRL, Freed<X509_CRL_free>>;
using RequestPtr = std::unique_ptr<X509_REQ, Freed<X509_REQ_free>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;
using BioPtr = std::unique_ptr<BIO, Freed<BIO_free_all>>;
using StorePtr = std::unique_ptr<X509_STORE, Freed<X509_STORE_free>>;

/// The last word of OpenSSL's error queue of this thread, which is empty afterwards; "" when there
/// was none.
[[nodiscard]] std::string drain_errors();

/// All certificates of a PEM file, in order, at least one. kFileMissing or kIo when it cannot be
/// read, kAuth when it holds none.
[[nodiscard]] Result<std::vector<CertificatePtr>> read_certificates(
    const sys::Disk& disk, const std::filesystem::path& path);
[[nodiscard]] Result<CrlPtr> read_crl(const sys::Disk& disk, const std::filesystem::path& path);
/// A request for a certificate; kAuth when it is none, or not signed by its own key.
[[nodiscard]] Result<RequestPtr> read_request(const sys::Disk& disk,
                                              const std::filesystem::path& path);
[[nodiscard]] std::string pem_of(X509& certificate);

/// Strict: exactly one strata uri, a common name that agrees with it, times that can be read. kAuth
/// with `where` saying what is wrong.
[[nodiscard]] Result<Identity> identity_of(const X509& certificate, const std::string& where);
/// The same of a request, which has no serial and no times.
[[nodiscard]] Result<Identity> identity_of(X509_REQ& request, const std::string& where);

/// Seconds since 1970, UTC; nothing for a time that cannot be read.
[[nodiscard]] std::optional<std::int64_t> seconds_of(const ASN1_TIME* time);

/// Whether the organisation says DEMO.
[[nodiscard]] bool is_demo(const X509_NAME& subject);

/// SHA-256 of the whole certificate: what people compare.
[[nodiscard]] Sha256 fingerprint(const X509& certificate);
[[nodiscard]] Sha256 spki_hash(X509_PUBKEY& key);
/// "clinic-a, serial 12ab" as far as the certificate says so; for messages, free of control bytes.
[[nodiscard]] std::string described(const X509& certificate);

/// Ed25519 and P-256 are taken; anything else is kAuth.
[[nodiscard]] Result<void> check_key_type(const EVP_PKEY& key, const std::string& where);

/// Only `ca` is trusted; with a `crl`, it is checked and must be current. Null when out of memory.
[[nodiscard]] StorePtr make_store(X509& ca, X509_CRL* crl);

/// What OpenSSL's verification found (X509_V_ERR_...) as a kAuth error in plain words. `now`: the
/// local clock in seconds since 1970. `subject`: the certificate it is about; may be null.
[[nodiscard]] Error verify_error(int code, const X509* subject, const std::string& where,
                                 std::int64_t now);

}  // namespace strata::certs

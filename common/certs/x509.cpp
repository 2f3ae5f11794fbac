#include "certs/x509.h"

#include <openssl/err.h>
#include <openssl/pem.h>

#include <algorithm>

namespace strata::certs {
namespace {

constexpr std::size_t kPemBytesMax = 1u << 20;

Error refused(const std::string& where, std::string what, std::string rule = {}) {
  return {
      .code = ErrorCode::kAuth, .what = std::move(what), .where = where, .rule = std::move(rule)};
}

std::string_view text_of(const ASN1_STRING* text) {
  return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
          static_cast<std::size_t>(ASN1_STRING_length(text))};
}

Result<BioPtr> open_pem(const sys::Disk& disk, const std::filesystem::path& path,
                        std::string& text) {
  auto read = disk.read_text(path);
  if (!read) return fail(std::move(read).error());
  if (read->size() > kPemBytesMax)
    return fail(refused(path.string(), "is too large for a certificate"));
  text = *std::move(read);
  return BioPtr(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

// The one common name of a subject.
Result<std::string> common_name(const X509_NAME& subject, const std::string& where) {
  const int at = X509_NAME_get_index_by_NID(&subject, NID_commonName, -1);
  if (at < 0) return fail(refused(where, "has no common name"));
  if (X509_NAME_get_index_by_NID(&subject, NID_commonName, at) >= 0)
    return fail(refused(where, "has two common names", "there is exactly one"));
  return std::string(text_of(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(&subject, at))));
}

using GeneralNames = std::unique_ptr<GENERAL_NAMES, Freed<GENERAL_NAMES_free>>;

std::string address_text(const ASN1_OCTET_STRING& bytes) {
  std::string out;
  const unsigned char* data = ASN1_STRING_get0_data(&bytes);
  const int size = ASN1_STRING_length(&bytes);
  char piece[8];
  for (int i = 0; i < size; i += size == 4 ? 1 : 2) {
    if (size == 4)
      std::snprintf(piece, sizeof piece, i == 0 ? "%u" : ".%u", data[i]);
    else
      std::snprintf(piece, sizeof piece, i == 0 ? "%x" : ":%x", data[i] << 8 | data[i + 1]);
    out += piece;
  }
  return out;
}

Result<Identity> identity_from(const X509_NAME& subject, const GENERAL_NAMES* names,
                               const std::string& where) {
  std::optional<Identity> found;
  std::vector<std::string> hosts;
  int uris = 0;
  for (int i = 0; i < sk_GENERAL_NAME_num(names); ++i) {
    const GENERAL_NAME* entry = sk_GENERAL_NAME_value(names, i);
    if (entry->type == GEN_DNS) {
      hosts.emplace_back(text_of(entry->d.dNSName));
    } else if (entry->type == GEN_IPADD) {
      const int size = ASN1_STRING_length(entry->d.iPAddress);
      if (size == 4 || size == 16) hosts.push_back(address_text(*entry->d.iPAddress));
    } else if (entry->type == GEN_URI) {
      ++uris;
      const std::string uri(text_of(entry->d.uniformResourceIdentifier));
      found = parse_uri(uri);
      if (!found)
        return fail(refused(where, "names \"" + printable(uri, 100) + "\"",
                            "a name is strata://<federation>/<role>/<id>, each "
                            "[a-z0-9][a-z0-9._-]{0,62}"));
    }
  }
  if (uris != 1 || !found)
    return fail(refused(where, "has " + std::to_string(uris) + " names strata://...",
                        "there is exactly one"));
  for (const auto& host : hosts) {
    if (!valid_host(host))
      return fail(refused(where, "names the host \"" + printable(host, 100) + "\""));
  }
  auto common = common_name(subject, where);
  if (!common) return fail(std::move(common).error());
  if (*common != found->id)
    return fail(refused(
        where,
        "has the common name \"" + printable(*common, 100) + "\" and the id \"" + found->id + "\"",
        "the two are the same"));
  found->hosts = std::move(hosts);
  return *std::move(found);
}

std::string serial_of(const X509& certificate) {
  const ASN1_INTEGER* number = X509_get0_serialNumber(&certificate);
  const std::unique_ptr<BIGNUM, Freed<BN_free>> big(ASN1_INTEGER_to_BN(number, nullptr));
  if (!big) return "";
  char* digits = BN_bn2hex(big.get());
  std::string out = digits == nullptr ? "" : digits;
  OPENSSL_free(digits);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return c >= 'A' && c <= 'F' ? static_cast<char>(c + 32) : c; });
  return out;
}

}  // namespace

std::string drain_errors() {
  std::string out;
  while (const unsigned long code = ERR_get_error()) {
    char text[200];
    const char* reason = ERR_reason_error_string(code);
    if (reason == nullptr) ERR_error_string_n(code, text, sizeof text);
    out = reason == nullptr ? text : reason;
  }
  return out;
}

Result<std::vector<CertificatePtr>> read_certificates(const sys::Disk& disk,
                                                      const std::filesystem::path& path) {
  std::string text;
  auto bio = open_pem(disk, path, text);
  if (!bio) return fail(std::move(bio).error());
  std::vector<CertificatePtr> out;
  while (X509* one = PEM_read_bio_X509(bio->get(), nullptr, nullptr, nullptr))
    out.emplace_back(one);
  (void)drain_errors();  // the end of the file
  if (out.empty())
    return fail(refused(path.string(), "holds no certificate",
                        "certificates are PEM: -----BEGIN CERTIFICATE-----"));
  return out;
}

Result<CrlPtr> read_crl(const sys::Disk& disk, const std::filesystem::path& path) {
  std::string text;
  auto bio = open_pem(disk, path, text);
  if (!bio) return fail(std::move(bio).error());
  CrlPtr out(PEM_read_bio_X509_CRL(bio->get(), nullptr, nullptr, nullptr));
  (void)drain_errors();
  if (!out)
    return fail(refused(path.string(), "holds no list of revoked certificates",
                        "it is PEM: -----BEGIN X509 CRL-----"));
  return out;
}

Result<RequestPtr> read_request(const sys::Disk& disk, const std::filesystem::path& path) {
  std::string text;
  auto bio = open_pem(disk, path, text);
  if (!bio) return fail(std::move(bio).error());
  RequestPtr out(PEM_read_bio_X509_REQ(bio->get(), nullptr, nullptr, nullptr));
  const bool holds = out && X509_REQ_verify(out.get(), X509_REQ_get0_pubkey(out.get())) == 1;
  (void)drain_errors();
  if (!out) return fail(refused(path.string(), "holds no request for a certificate"));
  if (!holds)
    return fail(refused(path.string(), "is not signed by the key it is for",
                        "who asks for a certificate proves to have the key"));
  return out;
}

std::string pem_of(X509& certificate) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509(bio.get(), &certificate);
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return {data, static_cast<std::size_t>(size)};
}

bool is_demo(const X509_NAME& subject) {
  const int at = X509_NAME_get_index_by_NID(&subject, NID_organizationName, -1);
  return at >= 0 &&
         text_of(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(&subject, at))).starts_with("DEMO");
}

std::optional<std::int64_t> seconds_of(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return std::nullopt;
  return timegm(&parts);
}

Result<Identity> identity_of(const X509& certificate, const std::string& where) {
  int critical = 0;
  const GeneralNames names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(&certificate, NID_subject_alt_name, &critical, nullptr)));
  (void)drain_errors();
  if (!names) return fail(refused(where, "has no name strata://...", "there is exactly one"));
  const X509_NAME& subject = *X509_get_subject_name(&certificate);
  auto out = identity_from(subject, names.get(), where);
  if (!out) return out;
  const auto before = seconds_of(X509_get0_notBefore(&certificate));
  const auto after = seconds_of(X509_get0_notAfter(&certificate));
  if (!before || !after) return fail(refused(where, "has no times of validity"));
  out->not_before = *before;
  out->not_after = *after;
  out->serial = serial_of(certificate);
  out->spki = spki_hash(*X509_get_X509_PUBKEY(&certificate));
  out->demo = is_demo(subject);
  return out;
}

Result<Identity> identity_of(X509_REQ& request, const std::string& where) {
  STACK_OF(X509_EXTENSION)* extensions = X509_REQ_get_extensions(&request);
  const GeneralNames names(static_cast<GENERAL_NAMES*>(
      X509V3_get_d2i(extensions, NID_subject_alt_name, nullptr, nullptr)));
  sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
  (void)drain_errors();
  if (!names) return fail(refused(where, "asks for no name strata://...", "there is exactly one"));
  const X509_NAME& subject = *X509_REQ_get_subject_name(&request);
  auto out = identity_from(subject, names.get(), where);
  if (!out) return out;
  out->spki = spki_hash(*X509_REQ_get_X509_PUBKEY(&request));
  out->demo = is_demo(subject);
  return out;
}

Sha256 fingerprint(const X509& certificate) {
  unsigned char* der = nullptr;
  const int size = i2d_X509(&certificate, &der);
  const Sha256 out =
      sha256(std::as_bytes(std::span(der, static_cast<std::size_t>(std::max(size, 0)))));
  OPENSSL_free(der);
  return out;
}

Sha256 spki_hash(X509_PUBKEY& key) {
  unsigned char* der = nullptr;
  const int size = i2d_X509_PUBKEY(&key, &der);
  const Sha256 out =
      sha256(std::as_bytes(std::span(der, static_cast<std::size_t>(std::max(size, 0)))));
  OPENSSL_free(der);
  return out;
}

std::string described(const X509& certificate) {
  const X509_NAME* subject = X509_get_subject_name(&certificate);
  const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  const std::string common =
      at < 0 ? "no name"
             : printable(text_of(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at))), 63);
  return common + ", serial " + serial_of(certificate);
}

Result<void> check_key_type(const EVP_PKEY& key, const std::string& where) {
  if (EVP_PKEY_get_base_id(&key) == EVP_PKEY_ED25519) return {};
  char group[64] = "";
  std::size_t size = 0;
  if (EVP_PKEY_get_base_id(&key) == EVP_PKEY_EC &&
      EVP_PKEY_get_group_name(&key, group, sizeof group, &size) == 1 &&
      std::string_view(group) == "prime256v1")
    return {};
  const char* type = EVP_PKEY_get0_type_name(&key);
  return fail(refused(where, std::string("has a key of type ") + (type == nullptr ? "?" : type),
                      "keys are Ed25519 or P-256"));
}

StorePtr make_store(X509& ca, X509_CRL* crl) {
  StorePtr store(X509_STORE_new());
  if (!store || X509_STORE_add_cert(store.get(), &ca) != 1) return nullptr;
  unsigned long flags = X509_V_FLAG_X509_STRICT;
  if (crl != nullptr) {
    if (X509_STORE_add_crl(store.get(), crl) != 1) return nullptr;
    flags |= X509_V_FLAG_CRL_CHECK;
  }
  X509_STORE_set_flags(store.get(), flags);
  X509_VERIFY_PARAM_set_depth(X509_STORE_get0_param(store.get()), 1);
  return store;
}

}  // namespace strata::certs

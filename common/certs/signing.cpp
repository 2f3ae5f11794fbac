#include "certs/signing.h"

#include <openssl/pem.h>
#include <openssl/rand.h>

#include <algorithm>
#include <array>

namespace strata::certs {
namespace {

constexpr long kVersion3 = 2;
constexpr long kCrlVersion2 = 1;
constexpr long kRequestVersion1 = 0;

using BigPtr = std::unique_ptr<BIGNUM, Freed<BN_free>>;
using IntegerPtr = std::unique_ptr<ASN1_INTEGER, Freed<ASN1_INTEGER_free>>;
using TimePtr = std::unique_ptr<ASN1_TIME, Freed<ASN1_TIME_free>>;
using ExtensionPtr = std::unique_ptr<X509_EXTENSION, Freed<X509_EXTENSION_free>>;
using RevokedPtr = std::unique_ptr<X509_REVOKED, Freed<X509_REVOKED_free>>;

Error refused(const std::string& doing) {
  return {.code = ErrorCode::kInternal, .what = doing + " failed: " + drain_errors()};
}

// Ed25519 hashes on its own.
const EVP_MD* digest_of(const EVP_PKEY& key) {
  return EVP_PKEY_get_base_id(&key) == EVP_PKEY_ED25519 ? nullptr : EVP_sha256();
}

bool add_name(X509_NAME& name, const char* field, const std::string& value) {
  return X509_NAME_add_entry_by_txt(&name, field, MBSTRING_ASC,
                                    reinterpret_cast<const unsigned char*>(value.c_str()),
                                    static_cast<int>(value.size()), -1, 0) == 1;
}

// Organisation and common name. A name of 63 characters fits; one with more words would not.
bool set_subject(X509_NAME& name, const std::string& common, const std::string& federation,
                 bool demo) {
  const std::string organisation = demo ? "DEMO - not for real data" : federation;
  return add_name(name, "O", organisation) && add_name(name, "CN", common);
}

// 127 random bits: nobody can foresee what the authority will sign.
bool set_serial(X509& certificate) {
  std::array<unsigned char, 16> bytes{};
  if (RAND_bytes(bytes.data(), bytes.size()) != 1) return false;
  bytes[0] = (bytes[0] & 0x7fu) | 0x40u;
  const BigPtr number(BN_bin2bn(bytes.data(), bytes.size(), nullptr));
  return number && BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(&certificate)) != nullptr;
}

bool set_times(X509& certificate, std::int64_t from, std::int64_t to) {
  return ASN1_TIME_set(X509_getm_notBefore(&certificate), from) != nullptr &&
         ASN1_TIME_set(X509_getm_notAfter(&certificate), to) != nullptr;
}

ExtensionPtr extension(X509V3_CTX& context, int id, const std::string& value) {
  return ExtensionPtr(X509V3_EXT_nconf_nid(nullptr, &context, id, value.c_str()));
}

bool extend(X509& certificate, X509V3_CTX& context, int id, const std::string& value) {
  const auto made = extension(context, id, value);
  return made && X509_add_ext(&certificate, made.get(), -1) == 1;
}

// Ids and hosts have no commas: they were checked.
std::string alternative_names(const Identity& identity) {
  std::string out = "URI:" + uri_of(identity);
  for (const auto& host : identity.hosts) out += (is_ip_address(host) ? ",IP:" : ",DNS:") + host;
  return out;
}

bool fill_leaf(X509& out, X509& ca, EVP_PKEY& public_key, const Identity& holder) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, &ca, &out, nullptr, nullptr, 0);
  const char* purpose = holder.role == Role::kCoordinator ? "serverAuth" : "clientAuth";
  return X509_set_version(&out, kVersion3) == 1 && set_serial(out) &&
         set_subject(*X509_get_subject_name(&out), holder.id, holder.federation, holder.demo) &&
         X509_set_issuer_name(&out, X509_get_subject_name(&ca)) == 1 &&
         X509_set_pubkey(&out, &public_key) == 1 &&
         extend(out, context, NID_basic_constraints, "critical,CA:FALSE") &&
         extend(out, context, NID_key_usage, "critical,digitalSignature") &&
         extend(out, context, NID_ext_key_usage, purpose) &&
         extend(out, context, NID_subject_key_identifier, "hash") &&
         extend(out, context, NID_authority_key_identifier, "keyid:always") &&
         extend(out, context, NID_subject_alt_name, alternative_names(holder));
}

std::int64_t end_of(const X509& certificate) {
  std::tm parts{};
  ASN1_TIME_to_tm(X509_get0_notAfter(&certificate), &parts);
  return timegm(&parts);
}

bool add_revoked(X509_CRL& list, const Revoked& entry) {
  BIGNUM* raw = nullptr;
  if (BN_hex2bn(&raw, entry.serial.c_str()) == 0) return false;
  const BigPtr number(raw);
  const IntegerPtr serial(BN_to_ASN1_INTEGER(number.get(), nullptr));
  const TimePtr at(ASN1_TIME_set(nullptr, entry.at));
  const std::unique_ptr<ASN1_ENUMERATED, Freed<ASN1_ENUMERATED_free>> reason(ASN1_ENUMERATED_new());
  RevokedPtr revoked(X509_REVOKED_new());
  if (!serial || !at || !reason || !revoked ||
      X509_REVOKED_set_serialNumber(revoked.get(), serial.get()) != 1 ||
      X509_REVOKED_set_revocationDate(revoked.get(), at.get()) != 1 ||
      ASN1_ENUMERATED_set(reason.get(), entry.reason) != 1 ||
      X509_REVOKED_add1_ext_i2d(revoked.get(), NID_crl_reason, reason.get(), 0, 0) != 1 ||
      X509_CRL_add0_revoked(&list, revoked.get()) != 1)
    return false;
  (void)revoked.release();  // the list owns it now
  return true;
}

bool fill_crl(X509_CRL& out, X509& ca, const std::vector<Revoked>& revoked, std::int64_t number,
              std::int64_t from, std::int64_t to) {
  const TimePtr begin(ASN1_TIME_set(nullptr, from));
  const TimePtr end(ASN1_TIME_set(nullptr, to));
  const IntegerPtr counter(ASN1_INTEGER_new());
  if (!begin || !end || !counter || X509_CRL_set_version(&out, kCrlVersion2) != 1 ||
      X509_CRL_set_issuer_name(&out, X509_get_subject_name(&ca)) != 1 ||
      X509_CRL_set1_lastUpdate(&out, begin.get()) != 1 ||
      X509_CRL_set1_nextUpdate(&out, end.get()) != 1 ||
      ASN1_INTEGER_set_int64(counter.get(), number) != 1 ||
      X509_CRL_add1_ext_i2d(&out, NID_crl_number, counter.get(), 0, 0) != 1)
    return false;
  X509V3_CTX context;
  X509V3_set_ctx(&context, &ca, nullptr, nullptr, &out, 0);
  const auto issuer = extension(context, NID_authority_key_identifier, "keyid:always");
  if (!issuer || X509_CRL_add_ext(&out, issuer.get(), -1) != 1) return false;
  for (const auto& entry : revoked) {
    if (!add_revoked(out, entry)) return false;
  }
  return X509_CRL_sort(&out) == 1;
}

std::string taken_text(BIO& bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(&bio, &data);
  return {data, static_cast<std::size_t>(size)};
}

}  // namespace

Result<CertificatePtr> make_authority(EVP_PKEY& key, const std::string& federation, bool demo,
                                      std::int64_t now, int days) {
  CertificatePtr out(X509_new());
  if (!out) return fail(refused("making the authority's certificate"));
  X509V3_CTX context;
  X509V3_set_ctx(&context, out.get(), out.get(), nullptr, nullptr, 0);
  X509_NAME& subject = *X509_get_subject_name(out.get());
  const bool made =
      X509_set_version(out.get(), kVersion3) == 1 && set_serial(*out) &&
      set_times(*out, now - kBackdatedSeconds, now - kBackdatedSeconds + days * kDaySeconds) &&
      add_name(subject, "OU", "certificate authority") &&  // no party has its subject
      set_subject(subject, federation, federation, demo) &&
      X509_set_issuer_name(out.get(), &subject) == 1 && X509_set_pubkey(out.get(), &key) == 1 &&
      extend(*out, context, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
      extend(*out, context, NID_key_usage, "critical,keyCertSign,cRLSign") &&
      extend(*out, context, NID_subject_key_identifier, "hash") &&
      extend(*out, context, NID_authority_key_identifier, "keyid:always");
  if (!made || X509_sign(out.get(), &key, digest_of(key)) == 0)
    return fail(refused("making the authority's certificate"));
  return out;
}

Result<std::string> make_request_pem(EVP_PKEY& key, const Identity& identity) {
  const RequestPtr request(X509_REQ_new());
  const BioPtr bio(BIO_new(BIO_s_mem()));
  if (!request || !bio) return fail(refused("making a request"));
  X509V3_CTX context;
  X509V3_set_ctx(&context, nullptr, nullptr, request.get(), nullptr, 0);
  const auto names = extension(context, NID_subject_alt_name, alternative_names(identity));
  STACK_OF(X509_EXTENSION)* list = sk_X509_EXTENSION_new_null();
  bool made = names && list != nullptr && sk_X509_EXTENSION_push(list, names.get()) > 0 &&
              X509_REQ_add_extensions(request.get(), list) == 1;
  sk_X509_EXTENSION_free(list);  // the list, not the name in it
  X509_NAME& subject = *X509_REQ_get_subject_name(request.get());
  made = made && X509_REQ_set_version(request.get(), kRequestVersion1) == 1 &&
         set_subject(subject, identity.id, identity.federation, identity.demo) &&
         X509_REQ_set_pubkey(request.get(), &key) == 1 &&
         X509_REQ_sign(request.get(), &key, digest_of(key)) > 0 &&
         PEM_write_bio_X509_REQ(bio.get(), request.get()) == 1;
  if (!made) return fail(refused("making a request"));
  return taken_text(*bio);
}

Result<CertificatePtr> make_leaf(X509& ca, EVP_PKEY& ca_key, EVP_PKEY& public_key,
                                 const Identity& holder, std::int64_t now, int days) {
  CertificatePtr out(X509_new());
  const std::int64_t from = now - kBackdatedSeconds;
  const std::int64_t to = std::min(from + days * kDaySeconds, end_of(ca));
  if (!out || !fill_leaf(*out, ca, public_key, holder) || !set_times(*out, from, to) ||
      X509_sign(out.get(), &ca_key, digest_of(ca_key)) == 0)
    return fail(refused("making a certificate"));
  return out;
}

Result<std::string> make_crl_pem(X509& ca, EVP_PKEY& ca_key, const std::vector<Revoked>& revoked,
                                 std::int64_t number, std::int64_t now, int days) {
  const CrlPtr list(X509_CRL_new());
  const BioPtr bio(BIO_new(BIO_s_mem()));
  const std::int64_t from = now - kBackdatedSeconds;
  const bool made = list && bio &&
                    fill_crl(*list, ca, revoked, number, from, now + days * kDaySeconds) &&
                    X509_CRL_sign(list.get(), &ca_key, digest_of(ca_key)) != 0 &&
                    PEM_write_bio_X509_CRL(bio.get(), list.get()) == 1;
  if (!made) return fail(refused("making the list of revoked certificates"));
  return taken_text(*bio);
}

}  // namespace strata::certs

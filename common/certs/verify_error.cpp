// The reasons of OpenSSL's verification in plain words, each with what to do about it.
#include "certs/x509.h"

namespace strata::certs {
namespace {

struct Words {
  std::string what;
  std::string rule;
  std::string remedy;
};

std::string time_text(const ASN1_TIME* time) {
  std::tm parts{};
  return ASN1_TIME_to_tm(time, &parts) == 1 ? utc_text(timegm(&parts)) : "an unreadable time";
}

Words time_words(int code, const X509* subject, std::int64_t now) {
  const std::string clock = "this machine's clock reads " + utc_text(now);
  if (code == X509_V_ERR_CERT_HAS_EXPIRED) {
    const std::string since =
        subject == nullptr ? "" : " since " + time_text(X509_get0_notAfter(subject));
    return {"is expired" + since, clock, "ask for a new one with `strata certs request`"};
  }
  const std::string until =
      subject == nullptr ? "" : " before " + time_text(X509_get0_notBefore(subject));
  return {"is not valid" + until, clock, "set the clock that is wrong"};
}

Words words_of(int code, const X509* subject, std::int64_t now) {
  switch (code) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return time_words(code, subject, now);
    case X509_V_ERR_CERT_REVOKED:
      return {"has been revoked", "", "ask the federation's authority for a new one"};
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
    case X509_V_ERR_CERT_CHAIN_TOO_LONG:
    case X509_V_ERR_INVALID_CA:
      return {"is not from this federation's certificate authority", "only its own are taken",
              "compare the fingerprints of both sides' ca.crt"};
    case X509_V_ERR_INVALID_PURPOSE:
      return {"is for another role", "",
              "ask for one with the right `strata certs request --role`"};
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
      return {"does not name the host that was called", "",
              "call the coordinator by a name in its certificate, or give it one with `strata "
              "certs request --host`"};
    case X509_V_ERR_UNABLE_TO_GET_CRL:
    case X509_V_ERR_CRL_SIGNATURE_FAILURE:
    case X509_V_ERR_UNABLE_TO_DECRYPT_CRL_SIGNATURE:
      return {"cannot be checked: the list of revoked certificates is not of its authority",
              "without a sound list nobody is let in",
              "fetch crl.pem from the federation's authority"};
    case X509_V_ERR_CRL_HAS_EXPIRED:
    case X509_V_ERR_CRL_NOT_YET_VALID:
      return {"cannot be checked: the list of revoked certificates is out of date",
              "without a current list nobody is let in",
              "renew crl.pem with `strata certs revoke` and fetch it"};
    default:
      return {std::string("is refused: ") + X509_verify_cert_error_string(code), "", ""};
  }
}

}  // namespace

Error verify_error(int code, const X509* subject, const std::string& where, std::int64_t now) {
  Words words = words_of(code, subject, now);
  const std::string whom = subject == nullptr ? "" : " (" + described(*subject) + ")";
  return {.code = ErrorCode::kAuth,
          .what = "the certificate" + whom + " " + words.what,
          .where = where,
          .rule = std::move(words.rule),
          .remedy = std::move(words.remedy)};
}

}  // namespace strata::certs

#include "transport/tls_error.h"

#include <openssl/err.h>
#include <openssl/sslerr.h>

#include <system_error>

namespace strata::transport {
namespace {

struct Words {
  std::string what;
  std::string remedy;
};

Error auth(const std::string& where, std::string what, std::string rule, std::string remedy) {
  return {.code = ErrorCode::kAuth,
          .what = std::move(what),
          .where = where,
          .rule = std::move(rule),
          .remedy = std::move(remedy)};
}

std::string alert_name(int alert) {
  const char* text = SSL_alert_desc_string_long(alert);
  return text == nullptr ? "alert " + std::to_string(alert) : text;
}

// What an alert says about the certificate that the other side did not take.
Words words_of(int alert) {
  switch (alert) {
    case SSL_AD_BAD_CERTIFICATE:
      return {"it is not valid yet by the other side's clock, or its key is too weak",
              "compare the clocks of both machines"};
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
      return {"it is for another role", "see `strata certs verify`"};
    case SSL_AD_CERTIFICATE_REVOKED:
      return {"it has been revoked", "ask the federation's authority for a new one"};
    case SSL_AD_CERTIFICATE_EXPIRED:
      return {"it has expired", "ask for a new one with `strata certs request --renew`"};
    case SSL_AD_CERTIFICATE_UNKNOWN:
      return {"it cannot be checked there now",
              "tell the coordinator's operator to renew the list of revoked certificates"};
    case SSL_AD_UNKNOWN_CA:
    case SSL_AD_DECRYPT_ERROR:
      return {"it is from another certificate authority",
              "compare the fingerprints of both sides' ca.crt"};
    case SSL_AD_HANDSHAKE_FAILURE:
      return {"our id is not on its list, or stands there with another key",
              "ask its operator what the job says of us"};
    case SSL_AD_CERTIFICATE_REQUIRED:
      return {"it got none", "see `strata certs verify`"};
    default:
      return {alert_name(alert), "see the coordinator's log"};
  }
}

Error plain_text(const std::string& where) {
  return auth(where, "does not speak TLS", "every connection is TLS 1.3 with certificates",
              "check the address and the port");
}

Error old_tls(const std::string& where) {
  return auth(where, "speaks an older TLS only", "TLS 1.3 is needed",
              "check the address; a proxy that ends TLS cannot stand between");
}

Error other_protocol(const std::string& where) {
  return auth(where, "speaks TLS but not strata/1", "both sides offer the protocol strata/1",
              "check the address and the port");
}

Error alert_error(TlsStage stage, int alert, const std::string& where) {
  if (stage == TlsStage::kDialing && alert == SSL_AD_PROTOCOL_VERSION) return old_tls(where);
  if (alert == SSL_AD_NO_APPLICATION_PROTOCOL) return other_protocol(where);
  if (stage == TlsStage::kGreeting) return refusal_of_ours(alert, where);
  if (stage == TlsStage::kDialing)
    return auth(where, "the coordinator refused the handshake: " + alert_name(alert), "",
                "see the coordinator's log");
  if (stage == TlsStage::kAccepting) {
    const Words words = alert == SSL_AD_HANDSHAKE_FAILURE
                            ? Words{"it does not name the host that was called",
                                    "ask for one with `strata certs request --host` for every "
                                    "name that clients call"}
                            : words_of(alert);
    return auth(
        where, "the client refused our certificate: " + words.what + " (" + alert_name(alert) + ")",
        "", words.remedy);
  }
  return {.code = ErrorCode::kPeer,
          .what = "the other side ended the connection: " + alert_name(alert),
          .where = where};
}

Error gone(TlsStage stage, int number, const std::string& where) {
  const std::string why = number == 0 ? "" : ": " + std::generic_category().message(number);
  if (stage == TlsStage::kOpen) {
    return {.code = ErrorCode::kPeer,
            .what = "stream truncated" + why,
            .where = where,
            .rule = "an orderly end says so"};
  }
  return {.code = ErrorCode::kPeer,
          .what = "closed the connection before both sides were known" + why,
          .where = where};
}

}  // namespace

Error refusal_of_ours(int alert, const std::string& where) {
  Words words = words_of(alert);
  return auth(where, "the coordinator refused our certificate: " + words.what, "",
              std::move(words.remedy));
}

Error tls_error(TlsStage stage, int ssl_error, int number, const std::string& where) {
  const unsigned long first = ERR_get_error();
  ERR_clear_error();
  if (ssl_error == SSL_ERROR_SYSCALL || first == 0) return gone(stage, number, where);
  const int reason = ERR_GET_REASON(first);
  if (ERR_GET_LIB(first) == ERR_LIB_SSL && reason >= SSL_AD_REASON_OFFSET)
    return alert_error(stage, reason - SSL_AD_REASON_OFFSET, where);
  switch (reason) {
    case SSL_R_UNEXPECTED_EOF_WHILE_READING:
      return gone(stage, 0, where);
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
      return auth(where, "sent no certificate", "every client has one of the federation",
                  "the client is set up with `strata certs request`");
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW:
    case SSL_R_WRONG_SSL_VERSION:
      return old_tls(where);
    case SSL_R_NO_APPLICATION_PROTOCOL:
      return other_protocol(where);
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_PACKET_LENGTH_TOO_LONG:
    case SSL_R_ENCRYPTED_LENGTH_TOO_LONG:
    case SSL_R_RECORD_LENGTH_MISMATCH:
    case SSL_R_BAD_RECORD_TYPE:
    case SSL_R_UNEXPECTED_MESSAGE:
    case SSL_R_UNEXPECTED_RECORD:
      if (stage != TlsStage::kOpen) return plain_text(where);
      break;
    default:
      break;
  }
  const char* text = ERR_reason_error_string(first);
  return {.code = stage == TlsStage::kOpen ? ErrorCode::kProtocol : ErrorCode::kAuth,
          .what = std::string("TLS failed: ") + (text == nullptr ? "no reason given" : text),
          .where = where};
}

}  // namespace strata::transport

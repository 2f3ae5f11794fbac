#include "transport/tls_context.h"

#include <openssl/err.h>

#include <algorithm>
#include <array>

namespace strata::transport {
namespace {

using certs::Role;
using StoreContextPtr = std::unique_ptr<X509_STORE_CTX, certs::Freed<X509_STORE_CTX_free>>;

// As ALPN wants it: a length, then the name.
constexpr std::array<unsigned char, 9> kAlpn{8, 's', 't', 'r', 'a', 't', 'a', '/', '1'};
constexpr std::size_t kReadAheadBytes = 65536;

Error auth(const std::string& where, std::string what, std::string rule, std::string remedy) {
  return {.code = ErrorCode::kAuth,
          .what = std::move(what),
          .where = where,
          .rule = std::move(rule),
          .remedy = std::move(remedy)};
}

int choose_alpn(SSL*, const unsigned char** out, unsigned char* size, const unsigned char* offered,
                unsigned int offered_size, void*) {
  unsigned char* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, size, kAlpn.data(), kAlpn.size(), offered, offered_size) !=
      OPENSSL_NPN_NEGOTIATED)
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

bool set_algorithms(SSL_CTX& out) {
  // The hybrid with ML-KEM where the library has it.
  const bool groups = SSL_CTX_set1_groups_list(&out, "X25519MLKEM768:X25519:P-256") == 1 ||
                      SSL_CTX_set1_groups_list(&out, "X25519:P-256") == 1;
  ERR_clear_error();
  SSL_CTX_set_security_level(&out, 2);
  return groups && SSL_CTX_set_min_proto_version(&out, TLS1_3_VERSION) == 1 &&
         SSL_CTX_set_max_proto_version(&out, TLS1_3_VERSION) == 1 &&
         SSL_CTX_set_ciphersuites(&out,
                                  "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:"
                                  "TLS_AES_128_GCM_SHA256") == 1 &&
         SSL_CTX_set1_sigalgs_list(&out, "ed25519:ecdsa_secp256r1_sha256:rsa_pss_rsae_sha256") == 1;
}

// Every connection is verified whole: nothing is remembered from one to the next.
bool forget_sessions(SSL_CTX& out) {
  SSL_CTX_set_session_cache_mode(&out, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_options(&out, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
  return SSL_CTX_set_num_tickets(&out, 0) == 1 && SSL_CTX_set_max_early_data(&out, 0) == 1;
}

void set_buffers(SSL_CTX& out) {
  SSL_CTX_set_mode(&out, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                             SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_read_ahead(&out, 1);
  SSL_CTX_set_default_read_buffer_len(&out, kReadAheadBytes);
}

bool check_host(SSL& ssl, const std::string& host) {
  X509_VERIFY_PARAM* param = SSL_get0_param(&ssl);
  X509_VERIFY_PARAM_set_hostflags(
      param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
  if (certs::is_ip_address(host)) return X509_VERIFY_PARAM_set1_ip_asc(param, host.c_str()) == 1;
  return X509_VERIFY_PARAM_set1_host(param, host.data(), host.size()) == 1 &&
         SSL_set_tlsext_host_name(&ssl, host.c_str()) == 1;
}

bool speaks_strata(SSL& ssl) {
  const unsigned char* chosen = nullptr;
  unsigned int size = 0;
  SSL_get0_alpn_selected(&ssl, &chosen, &size);
  return size + 1 == kAlpn.size() && std::equal(kAlpn.begin() + 1, kAlpn.end(), chosen);
}

bool is_about_crl(int code) {
  return code == X509_V_ERR_UNABLE_TO_GET_CRL || code == X509_V_ERR_CRL_HAS_EXPIRED ||
         code == X509_V_ERR_CRL_NOT_YET_VALID || code == X509_V_ERR_CRL_SIGNATURE_FAILURE;
}

}  // namespace

std::int64_t wall_seconds(const sys::Clock& clock) {
  return certs::parse_utc(clock.utc()).value_or(0);
}

Result<std::shared_ptr<const TlsContext>> TlsContext::load(const sys::Disk& disk,
                                                           const sys::Clock& clock,
                                                           const TlsOptions& options, Role own) {
  auto node = certs::load_node(disk, options.files, own, wall_seconds(clock));
  if (!node) return fail(std::move(node).error());
  std::shared_ptr<TlsContext> out(new TlsContext());  // its constructor is its own
  out->own_ = node->identity;
  out->listens_ = own == Role::kCoordinator;
  out->allowed_ = options.allowed;
  std::sort(out->allowed_.begin(), out->allowed_.end());
  out->keys_ = options.keys;
  if (auto ready = out->set_up(*std::move(node)); !ready) return fail(std::move(ready).error());
  return out;
}

Result<void> TlsContext::set_up(certs::Node node) {
  ssl_.reset(SSL_CTX_new(listens_ ? TLS_server_method() : TLS_client_method()));
  store_ = certs::make_store(*node.ca, node.crl.get());
  const bool ready =
      ssl_ && store_ && set_algorithms(*ssl_) && forget_sessions(*ssl_) &&
      SSL_CTX_set1_verify_cert_store(ssl_.get(), store_.get()) == 1 &&
      SSL_CTX_use_certificate(ssl_.get(), node.certificate.get()) == 1 &&
      SSL_CTX_use_PrivateKey(ssl_.get(), node.key.get()) == 1 &&
      SSL_CTX_set_purpose(ssl_.get(),
                          listens_ ? X509_PURPOSE_SSL_CLIENT : X509_PURPOSE_SSL_SERVER) == 1 &&
      (listens_ || SSL_CTX_set_alpn_protos(ssl_.get(), kAlpn.data(), kAlpn.size()) == 0);
  if (!ready)
    return fail(
        {.code = ErrorCode::kInternal, .what = "TLS cannot be set up: " + certs::drain_errors()});
  set_buffers(*ssl_);
  if (listens_) SSL_CTX_set_alpn_select_cb(ssl_.get(), choose_alpn, nullptr);
  // Our leaf alone is sent: the other side has the authority's certificate.
  SSL_CTX_set_mode(ssl_.get(), SSL_MODE_NO_AUTO_CHAIN);
  SSL_CTX_set_verify_depth(ssl_.get(), 1);
  SSL_CTX_set_verify(ssl_.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, on_verify);
  return {};
}

SslPtr TlsContext::connection(int socket, const std::string& host, PeerCheck& check) const {
  SslPtr out(SSL_new(ssl_.get()));
  if (!out || SSL_set_fd(out.get(), socket) != 1) return nullptr;
  if (!listens_ && !check_host(*out, host)) return nullptr;
  SSL_set_app_data(out.get(), &check);
  if (listens_)
    SSL_set_accept_state(out.get());
  else
    SSL_set_connect_state(out.get());
  return out;
}

int TlsContext::on_verify(int sound, X509_STORE_CTX* store) {
  auto* ssl =
      static_cast<SSL*>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
  PeerCheck& check = *static_cast<PeerCheck*>(SSL_get_app_data(ssl));
  if (sound == 1) return check.context->judge_certificate(*store, check);
  const int code = X509_STORE_CTX_get_error(store);
  const X509* subject = X509_STORE_CTX_get_current_cert(store);
  if (!check.refused)
    check.refused = certs::verify_error(code, subject, check.where, wall_seconds(*check.clock));
  // What the other side hears of is an alert; those that OpenSSL would send say too little.
  if (code == X509_V_ERR_HOSTNAME_MISMATCH || code == X509_V_ERR_IP_ADDRESS_MISMATCH)
    X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
  // So that the peer is told `certificate_unknown`: nothing is wrong with its own.
  if (is_about_crl(code)) X509_STORE_CTX_set_error(store, X509_V_ERR_CRL_PATH_VALIDATION_ERROR);
  return 0;
}

// Called for each certificate of a sound chain, the leaf last. The codes set here become the alerts
// that refusal_of_ours() reads.
int TlsContext::judge_certificate(X509_STORE_CTX& store, PeerCheck& check) const {
  if (X509_STORE_CTX_get_error_depth(&store) != 0) return 1;
  const X509& leaf = *X509_STORE_CTX_get_current_cert(&store);
  auto peer = certs::identity_of(leaf, check.where);
  if (!peer) {
    check.refused = std::move(peer).error();
    X509_STORE_CTX_set_error(&store, X509_V_ERR_INVALID_PURPOSE);
    return 0;
  }
  const bool coordinator = peer->role == Role::kCoordinator;
  if (coordinator == listens_ || peer->federation != own_.federation) {
    check.refused =
        auth(check.where,
             "the certificate (" + certs::described(leaf) + ") is of role " +
                 std::string(name(peer->role)) + " in federation \"" + peer->federation + "\"",
             std::string(listens_ ? "clients and admins of \"" : "a coordinator of \"") +
                 own_.federation + (listens_ ? "\" are let in" : "\" is called"),
             "");
    X509_STORE_CTX_set_error(&store, X509_V_ERR_INVALID_PURPOSE);
    return 0;
  }
  if (auto admitted = admits(*peer, check.where); !admitted) {
    check.refused = std::move(admitted).error();
    X509_STORE_CTX_set_error(&store, X509_V_ERR_APPLICATION_VERIFICATION);
    return 0;
  }
  check.peer = *std::move(peer);
  return 1;
}

Result<void> TlsContext::admits(const certs::Identity& peer, const std::string& where) const {
  if (!allowed_.empty() && !std::binary_search(allowed_.begin(), allowed_.end(), peer.id))
    return fail(auth(where, "\"" + peer.id + "\" is not on the list",
                     "only the ids that the job names are let in", "add it to the job"));
  const auto key = keys_.find(peer.id);
  if (key == keys_.end() || key->second == peer.spki) return {};
  return fail(auth(where, "\"" + peer.id + "\" has a certificate for the key " + hex(peer.spki),
                   "the job names " + hex(key->second),
                   "ask its owner which is right; a new key has to be put into the job"));
}

Result<certs::Identity> TlsContext::judge(SSL& ssl, const PeerCheck& check) {
  if (check.refused) return fail(*check.refused);
  const certs::CertificatePtr certificate(SSL_get1_peer_certificate(&ssl));
  if (!certificate)
    return fail(auth(check.where, "sent no certificate", "both sides prove who they are", ""));
  if (const long code = SSL_get_verify_result(&ssl); code != X509_V_OK)
    return fail(certs::verify_error(static_cast<int>(code), certificate.get(), check.where,
                                    wall_seconds(*check.clock)));
  if (!speaks_strata(ssl))
    return fail(auth(check.where, "speaks TLS but not strata/1",
                     "both sides offer the protocol strata/1", "check the address and the port"));
  if (!check.peer)
    return fail(auth(check.where, "was not verified", "every connection is verified whole", ""));
  return *check.peer;
}

Result<void> TlsContext::recheck(X509& peer, const std::string& where) const {
  const StoreContextPtr context(X509_STORE_CTX_new());
  if (!context || X509_STORE_CTX_init(context.get(), store_.get(), &peer, nullptr) != 1)
    return fail({.code = ErrorCode::kInternal, .what = "out of memory"});
  // A connection outlives the running out of what it began with.
  X509_STORE_CTX_set_flags(context.get(), X509_V_FLAG_NO_CHECK_TIME);
  const bool sound = X509_verify_cert(context.get()) == 1;
  ERR_clear_error();
  if (!sound)
    return fail(certs::verify_error(X509_STORE_CTX_get_error(context.get()), &peer, where, 0));
  auto identity = certs::identity_of(peer, where);
  if (!identity) return fail(std::move(identity).error());
  return admits(*identity, where);
}

}  // namespace strata::transport

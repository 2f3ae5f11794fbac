#include "certs/node.h"

#include <algorithm>

#include "certs/chain.h"
#include "certs/signing.h"

namespace strata::certs {
namespace {

using StoreContextPtr = std::unique_ptr<X509_STORE_CTX, Freed<X509_STORE_CTX_free>>;

Error refused(const std::string& where, std::string what, std::string rule = {},
              std::string remedy = {}) {
  return {.code = ErrorCode::kAuth,
          .what = std::move(what),
          .where = where,
          .rule = std::move(rule),
          .remedy = std::move(remedy)};
}

Error usage(const std::string& flag, const std::string& value, std::string rule) {
  return {.code = ErrorCode::kUsage,
          .what = "\"" + printable(value, 100) + "\" cannot be used",
          .where = flag,
          .rule = std::move(rule)};
}

std::string bare_digits(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c != ':' && c != ' ') out += c >= 'A' && c <= 'F' ? static_cast<char>(c + 32) : c;
  }
  return out;
}

Result<void> check_asked(const Identity& identity) {
  constexpr const char* kRule = "a name is [a-z0-9][a-z0-9._-]{0,62}";
  if (!valid_id(identity.federation))
    return fail(usage("--federation", identity.federation, kRule));
  if (!valid_id(identity.id)) return fail(usage("--id", identity.id, kRule));
  for (const auto& host : identity.hosts) {
    if (!valid_host(host)) return fail(usage("--host", host, "a DNS name or an IP address"));
  }
  if (identity.role == Role::kCoordinator && identity.hosts.empty()) {
    return fail({.code = ErrorCode::kUsage,
                 .what = "a coordinator needs a host",
                 .where = "--host",
                 .rule = "clients check the certificate for the host they call",
                 .remedy = "give --host NAME, once for each name or address"});
  }
  if (identity.role != Role::kCoordinator && !identity.hosts.empty())
    return fail(usage("--host", identity.hosts.front(), "only a coordinator names hosts"));
  return {};
}

Result<void> check_pair(const Node& node, const NodeFiles& files) {
  const bool fits = X509_check_private_key(node.certificate.get(), node.key.get()) == 1;
  (void)drain_errors();
  if (fits) return {};
  return fail(refused(files.key.string(), "is not the key of " + files.certificate.string(),
                      "a certificate is for the key it was asked for with",
                      "use the folder that `strata certs request` wrote the key to"));
}

Result<void> check_role(const Identity& identity, std::optional<Role> role,
                        const std::string& where) {
  if (!role || identity.role == *role) return {};
  // An admin does all that a client does.
  if (*role == Role::kClient && identity.role == Role::kAdmin) return {};
  return fail(
      refused(where, "is of role " + std::string(name(identity.role)),
              "a " + std::string(name(*role)) + "'s is needed here",
              "ask for one with `strata certs request --role " + std::string(name(*role)) + "`"));
}

}  // namespace

Result<void> check_chain(X509& certificate, X509& ca, X509_CRL* crl, Role role,
                         const std::string& where, std::int64_t at) {
  const StorePtr store = make_store(ca, crl);
  const StoreContextPtr context(X509_STORE_CTX_new());
  if (!store || !context ||
      X509_STORE_CTX_init(context.get(), store.get(), &certificate, nullptr) != 1)
    return fail({.code = ErrorCode::kInternal, .what = "out of memory"});
  X509_VERIFY_PARAM_set_time(X509_STORE_CTX_get0_param(context.get()), at);
  X509_STORE_CTX_set_purpose(context.get(), role == Role::kCoordinator ? X509_PURPOSE_SSL_SERVER
                                                                       : X509_PURPOSE_SSL_CLIENT);
  const bool sound = X509_verify_cert(context.get()) == 1;
  (void)drain_errors();
  if (sound) return {};
  const X509* subject = X509_STORE_CTX_get_current_cert(context.get());
  return fail(verify_error(X509_STORE_CTX_get_error(context.get()),
                           subject == nullptr ? &certificate : subject, where, at));
}

Result<void> check_not_revoked(X509& certificate, X509& ca, X509_CRL& crl, const std::string& where,
                               std::int64_t now) {
  EVP_PKEY* key = X509_get0_pubkey(&ca);
  X509_REVOKED* entry = nullptr;
  auto at = static_cast<std::time_t>(now);
  const ASN1_TIME* next = X509_CRL_get0_nextUpdate(&crl);
  int problem = X509_V_OK;
  if (key == nullptr || X509_CRL_verify(&crl, key) != 1) {
    problem = X509_V_ERR_CRL_SIGNATURE_FAILURE;
  } else if (next == nullptr || X509_cmp_time(next, &at) <= 0) {
    problem = X509_V_ERR_CRL_HAS_EXPIRED;
  } else if (X509_CRL_get0_by_cert(&crl, &entry, &certificate) == 1) {
    problem = X509_V_ERR_CERT_REVOKED;
  }
  (void)drain_errors();
  if (problem == X509_V_OK) return {};
  return fail(verify_error(problem, &certificate, where, now));
}

NodeFiles files_in(const sys::Disk& disk, const std::filesystem::path& folder) {
  NodeFiles out{.ca = folder / "ca.crt",
                .certificate = folder / "identity.crt",
                .key = folder / "identity.key"};
  if (disk.exists(folder / "crl.pem")) out.crl = folder / "crl.pem";
  return out;
}

Result<Requested> request(sys::Disk& disk, const std::filesystem::path& folder,
                          const Identity& identity, KeyType type, bool renew) {
  if (auto sound = check_asked(identity); !sound) return fail(std::move(sound).error());
  const auto key_path = folder / "identity.key";
  KeyPtr key;
  if (renew) {
    auto old = read_key(key_path);
    if (!old) return fail(std::move(old).error());
    key = *std::move(old);
  } else {
    key = make_key(type);
    if (!key) return fail({.code = ErrorCode::kInternal, .what = "no key: " + drain_errors()});
    if (auto made = disk.create_directories(folder); !made) return fail(std::move(made).error());
    if (auto written = write_key(*key, key_path); !written) {
      Error error = std::move(written).error();
      if (error.code == ErrorCode::kFileExists)
        error.remedy = "give --renew to ask for a certificate of that key, or another folder";
      return fail(std::move(error));
    }
  }
  auto pem = make_request_pem(*key, identity);
  if (!pem) return fail(std::move(pem).error());
  Requested out{.path = folder / (identity.id + ".csr")};
  if (auto written = disk.write_atomic(out.path, *pem); !written)
    return fail(std::move(written).error());
  auto back = read_request(disk, out.path);
  if (!back) return fail(std::move(back).error());
  out.spki = spki_hash(*X509_REQ_get_X509_PUBKEY(back->get()));
  return out;
}

Result<Identity> install(sys::Disk& disk, const std::filesystem::path& received,
                         const std::filesystem::path& folder, const std::string& ca_fingerprint,
                         std::int64_t now) {
  const std::string where = received.string();
  auto certificates = read_certificates(disk, received);
  if (!certificates) return fail(std::move(certificates).error());
  if (certificates->size() != 2) {
    return fail(refused(where, "holds " + std::to_string(certificates->size()) + " certificates",
                        "it holds the party's and the authority's",
                        "take the file that `strata certs approve` wrote"));
  }
  Node node{.certificate = std::move(certificates->front()), .ca = std::move(certificates->back())};
  const std::string found = hex(fingerprint(*node.ca));
  if (found != bare_digits(ca_fingerprint)) {
    return fail(refused(where, "comes from an authority with fingerprint " + found,
                        "\"" + printable(ca_fingerprint, 100) + "\" was given",
                        "compare it with the authority by telephone; do not install this file"));
  }
  auto identity = identity_of(*node.certificate, where);
  if (!identity) return fail(std::move(identity).error());
  node.identity = *identity;
  const NodeFiles files = files_in(disk, folder);
  auto key = read_key(files.key);
  if (!key) return fail(std::move(key).error());
  node.key = *std::move(key);
  if (auto pair = check_pair(node, {.certificate = received, .key = files.key}); !pair)
    return fail(std::move(pair).error());
  if (auto chain =
          check_chain(*node.certificate, *node.ca, node.crl.get(), node.identity.role, where, now);
      !chain)
    return fail(std::move(chain).error());
  if (auto written = disk.write_atomic(files.ca, pem_of(*node.ca)); !written)
    return fail(std::move(written).error());
  if (auto written = disk.write_atomic(files.certificate, pem_of(*node.certificate)); !written)
    return fail(std::move(written).error());
  return *identity;
}

Result<Node> load_node(const sys::Disk& disk, const NodeFiles& files, std::optional<Role> role,
                       std::int64_t now) {
  Node out;
  auto key = read_key(files.key);
  if (!key) return fail(std::move(key).error());
  out.key = *std::move(key);
  auto certificates = read_certificates(disk, files.certificate);
  if (!certificates) return fail(std::move(certificates).error());
  out.certificate = std::move(certificates->front());
  auto authorities = read_certificates(disk, files.ca);
  if (!authorities) return fail(std::move(authorities).error());
  out.ca = std::move(authorities->front());
  if (!files.crl.empty()) {
    auto crl = read_crl(disk, files.crl);
    if (!crl) return fail(std::move(crl).error());
    out.crl = *std::move(crl);
  }
  const std::string where = files.certificate.string();
  auto identity = identity_of(*out.certificate, where);
  if (!identity) return fail(std::move(identity).error());
  out.identity = *std::move(identity);
  if (auto fits = check_role(out.identity, role, where); !fits)
    return fail(std::move(fits).error());
  if (auto pair = check_pair(out, files); !pair) return fail(std::move(pair).error());
  if (auto chain =
          check_chain(*out.certificate, *out.ca, out.crl.get(), out.identity.role, where, now);
      !chain)
    return fail(std::move(chain).error());
  return out;
}

std::vector<std::string> expiring(const Node& node, const NodeFiles& files, std::int64_t now) {
  constexpr std::int64_t kDay = 86400, kSoon = 30 * kDay;
  std::vector<std::string> out;
  const auto look = [&](const std::filesystem::path& file, const ASN1_TIME* end,
                        const std::string& remedy) {
    const auto at = end == nullptr ? std::nullopt : seconds_of(end);
    if (!at || *at - now >= kSoon) return;
    const std::int64_t days = (*at - now) / kDay;
    out.push_back(file.string() + " runs out on " + utc_text(*at) + ", in " + std::to_string(days) +
                  (days == 1 ? " day; " : " days; ") + remedy);
  };
  look(files.certificate, X509_get0_notAfter(node.certificate.get()),
       "ask for a new one with `strata certs request --renew`");
  look(files.ca, X509_get0_notAfter(node.ca.get()),
       "the federation needs a new authority, and new certificates, by then");
  if (node.crl)
    look(files.crl, X509_CRL_get0_nextUpdate(node.crl.get()),
         "fetch a new one; `strata certs revoke` renews it");
  return out;
}

}  // namespace strata::certs

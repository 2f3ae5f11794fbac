#include "certs/authority.h"

#include "certs/signing.h"

namespace strata::certs {
namespace {

std::filesystem::path key_of(const std::filesystem::path& folder) { return folder / "ca.key"; }
std::filesystem::path certificate_of(const std::filesystem::path& folder) {
  return folder / "ca.crt";
}
std::filesystem::path index_of(const std::filesystem::path& folder) {
  return folder / "issued.json";
}

Error refused(const std::string& where, std::string what, std::string rule, std::string remedy) {
  return {.code = ErrorCode::kAuth,
          .what = std::move(what),
          .where = where,
          .rule = std::move(rule),
          .remedy = std::move(remedy)};
}

Result<void> check_days(int days, int most, const char* what = "certificate",
                        const char* flag = "--days") {
  if (days >= 1 && days <= most) return {};
  return fail({.code = ErrorCode::kUsage,
               .what = std::string("a ") + what + " of " + std::to_string(days) + " days",
               .where = flag,
               .rule = "between 1 and " + std::to_string(most)});
}

}  // namespace

Result<Authority> Authority::init(sys::Disk& disk, const std::filesystem::path& folder,
                                  const AuthorityOptions& options, std::int64_t now) {
  if (!valid_id(options.federation)) {
    return fail({.code = ErrorCode::kUsage,
                 .what = "\"" + printable(options.federation, 80) + "\" cannot name a federation",
                 .where = "--federation",
                 .rule = "a name is [a-z0-9][a-z0-9._-]{0,62}"});
  }
  if (auto days = check_days(options.days, kAuthorityDaysMax); !days)
    return fail(std::move(days).error());
  auto key = make_key(options.key_type);
  if (!key) return fail({.code = ErrorCode::kInternal, .what = "no key: " + drain_errors()});
  auto certificate = make_authority(*key, options.federation, options.demo, now, options.days);
  if (!certificate) return fail(std::move(certificate).error());
  if (auto made = disk.create_directories(folder); !made) return fail(std::move(made).error());
  auto lock = disk.lock(folder / "lock");
  if (!lock) return fail(std::move(lock).error());
  // The key first: it is what refuses to overwrite an authority that is there.
  if (auto written = write_key(*key, key_of(folder)); !written)
    return fail(std::move(written).error());
  if (auto written = disk.write_atomic(certificate_of(folder), pem_of(**certificate)); !written)
    return fail(std::move(written).error());
  Authority out(disk, folder, std::move(key), *std::move(certificate),
                {.federation = options.federation});
  out.lock_ = std::move(*lock);
  if (auto renewed = out.revoke("", Reason::kUnspecified, now); !renewed)
    return fail(std::move(renewed).error());
  return out;
}

Result<Authority> Authority::open(sys::Disk& disk, const std::filesystem::path& folder) {
  auto key = read_key(key_of(folder));
  if (!key) return fail(std::move(key).error());
  auto lock = disk.lock(folder / "lock");
  if (!lock) return fail(std::move(lock).error());
  auto certificates = read_certificates(disk, certificate_of(folder));
  if (!certificates) return fail(std::move(certificates).error());
  auto index = read_index(disk, index_of(folder));
  if (!index) return fail(std::move(index).error());
  if (X509_check_private_key(certificates->front().get(), key->get()) != 1) {
    (void)drain_errors();
    return fail(refused(folder.string(), "ca.key is not the key of ca.crt", "",
                        "restore the folder from a copy"));
  }
  Authority out(disk, folder, *std::move(key), std::move(certificates->front()), *std::move(index));
  out.lock_ = std::move(*lock);
  return out;
}

Sha256 Authority::fingerprint() const { return certs::fingerprint(*certificate_); }

std::int64_t Authority::not_after() const {
  return seconds_of(X509_get0_notAfter(certificate_.get())).value_or(0);
}

Result<void> Authority::check_holder(const Identity& asked, const std::string& where,
                                     const ApproveOptions& options) const {
  if (asked.federation != index_.federation) {
    return fail(refused(where, "asks for federation \"" + asked.federation + "\"",
                        "this authority is of \"" + index_.federation + "\"",
                        "ask again with --federation " + index_.federation));
  }
  if (asked.id != options.expect_id) {
    return fail(refused(where, "asks for id \"" + asked.id + "\"",
                        "\"" + printable(options.expect_id, 63) + "\" is expected",
                        "find out who sent it before you approve it"));
  }
  if (asked.role != options.expect_role) {
    return fail(
        refused(where, "asks for role " + std::string(name(asked.role)),
                std::string(name(options.expect_role)) + " is expected",
                "if that is meant, approve it with --role " + std::string(name(asked.role))));
  }
  if (asked.role == Role::kCoordinator && asked.hosts.empty()) {
    return fail(refused(where, "names no host",
                        "clients check a coordinator's certificate for the host they call",
                        "ask again with --host NAME"));
  }
  if (asked.role != Role::kCoordinator && !asked.hosts.empty())
    return fail(refused(where, "names a host", "only a coordinator's does", "ask without --host"));
  return {};
}

Result<void> Authority::check_key_is_new(const Identity& asked, const std::string& where,
                                         bool rekey) const {
  const std::string key = hex(asked.spki);
  for (const auto& other : index_.certificates) {
    if (other.spki_sha256 == key && other.id != asked.id) {
      return fail(refused(where, "comes with the key of \"" + other.id + "\"",
                          "every id has a key of its own", "ask again with a new key"));
    }
    if (other.spki_sha256 == key && other.revoked_at) {
      return fail(refused(where, "comes with a key that was revoked",
                          "a revoked key is never signed again", "ask again with a new key"));
    }
  }
  for (const auto& other : index_.certificates) {
    if (rekey || other.id != asked.id || other.revoked_at || other.spki_sha256 == key) continue;
    return fail(refused(where, "is for \"" + asked.id + "\" with another key than before",
                        "the id has a certificate, serial " + other.serial,
                        "ask its holder; if the key is to change, approve it with --rekey"));
  }
  return {};
}

Result<Approved> Authority::approve(const std::filesystem::path& request,
                                    const ApproveOptions& options, std::int64_t now) {
  const std::string where = request.string();
  if (auto days = check_days(options.days, kLeafDaysMax); !days)
    return fail(std::move(days).error());
  auto read = read_request(*disk_, request);
  if (!read) return fail(std::move(read).error());
  auto asked = identity_of(**read, where);
  if (!asked) return fail(std::move(asked).error());
  asked->demo = is_demo(
      *X509_get_subject_name(certificate_.get()));  // the authority's, not the asker's, to say
  EVP_PKEY& key = *X509_REQ_get0_pubkey(read->get());
  if (auto type = check_key_type(key, where); !type) return fail(std::move(type).error());
  if (auto holder = check_holder(*asked, where, options); !holder)
    return fail(std::move(holder).error());
  if (auto fresh = check_key_is_new(*asked, where, options.rekey); !fresh)
    return fail(std::move(fresh).error());
  if (now >= not_after())
    return fail(refused(folder_.string(), "the authority expired on " + utc_text(not_after()), "",
                        "make a new one with `strata certs init`"));
  auto leaf = make_leaf(*certificate_, *key_, key, *asked, now, options.days);
  if (!leaf) return fail(std::move(leaf).error());
  auto identity = identity_of(**leaf, where);
  if (!identity) return fail(std::move(identity).error());

  Approved out{.identity = *identity, .pem = pem_of(**leaf) + pem_of(*certificate_)};
  const std::string spki = hex(identity->spki);
  for (auto& other : index_.certificates) {
    if (other.id != identity->id || other.revoked_at || other.spki_sha256 == spki) continue;
    other.revoked_at = now;
    other.reason = Reason::kSuperseded;
    out.revoked.push_back(other.serial);
  }
  index_.certificates.push_back({.id = identity->id,
                                 .role = identity->role,
                                 .serial = identity->serial,
                                 .spki_sha256 = spki,
                                 .not_before = identity->not_before,
                                 .not_after = identity->not_after});
  auto written = out.revoked.empty() && !options.rekey
                     ? write_index(*disk_, index_of(folder_), index_)
                     : write_crl(now, kCrlDays);
  if (!written) return fail(std::move(written).error());
  return out;
}

// The index before the list: a number is never used twice.
Result<void> Authority::write_crl(std::int64_t now, int days) {
  ++index_.crl_number;
  if (auto written = write_index(*disk_, index_of(folder_), index_); !written)
    return fail(std::move(written).error());
  std::vector<Revoked> revoked;
  for (const auto& entry : index_.certificates) {
    if (entry.revoked_at)
      revoked.push_back({entry.serial, *entry.revoked_at, static_cast<int>(entry.reason)});
  }
  auto list = make_crl_pem(*certificate_, *key_, revoked, index_.crl_number, now, days);
  if (!list) return fail(std::move(list).error());
  return disk_->write_atomic(crl_path(), *list);
}

Result<Revocation> Authority::revoke(const std::string& id, Reason reason, std::int64_t now,
                                     int crl_days) {
  if (auto days = check_days(crl_days, kLeafDaysMax, "list of revoked certificates", "--crl-days");
      !days)
    return fail(std::move(days).error());
  Revocation out;
  // Also what was revoked before: if writing the list failed then, it has to be written now.
  bool known = id.empty();
  for (auto& entry : index_.certificates) {
    if (entry.id != id) continue;
    known = true;
    if (entry.revoked_at) continue;
    entry.revoked_at = now;
    entry.reason = reason;
    out.serials.push_back(entry.serial);
  }
  if (!known) {
    return fail(refused(folder_.string(),
                        "\"" + printable(id, 63) + "\" has no certificate to take back", "",
                        "see `strata certs list`"));
  }
  if (auto written = write_crl(now, crl_days); !written) return fail(std::move(written).error());
  out.crl_number = index_.crl_number;
  out.valid_until = now + crl_days * kDaySeconds;
  return out;
}

}  // namespace strata::certs

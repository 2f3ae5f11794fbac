#include "certs/demo.h"

#include <set>

#include "certs/node.h"

namespace strata::certs {
namespace {

constexpr const char* kFederation = "demo";

Result<void> add_party(sys::Disk& disk, Authority& authority, const std::filesystem::path& root,
                       const Identity& identity, std::int64_t now) {
  const auto folder = root / identity.id;
  auto asked = request(disk, folder, identity, KeyType::kEd25519, false);
  if (!asked) return fail(std::move(asked).error());
  auto approved =
      authority.approve(asked->path, {.expect_id = identity.id, .expect_role = identity.role}, now);
  if (!approved) return fail(std::move(approved).error());
  const auto received = folder / (identity.id + ".crt");
  if (auto written = disk.write_atomic(received, approved->pem); !written) return written;
  auto installed = install(disk, received, folder, hex(authority.fingerprint()), now);
  if (!installed) return fail(std::move(installed).error());
  for (const auto& done : {received, asked->path}) {
    if (auto removed = disk.remove_all(done); !removed) return removed;
  }
  return {};
}

Result<void> check_names(const std::vector<std::string>& clients) {
  std::set<std::string> seen{"ca", "coordinator"};
  for (const auto& id : clients) {
    if (!valid_id(id) || !seen.insert(id).second) {
      return fail({.code = ErrorCode::kUsage,
                   .what = "\"" + printable(id, 80) + "\" cannot name a client",
                   .where = "--names",
                   .rule = "each once, [a-z0-9][a-z0-9._-]{0,62}, not ca or coordinator"});
    }
  }
  return {};
}

}  // namespace

Result<Sha256> make_demo(sys::Disk& disk, const std::filesystem::path& folder,
                         const DemoOptions& options, std::int64_t now) {
  if (auto names = check_names(options.clients); !names) return fail(std::move(names).error());
  if (disk.exists(folder)) {
    return fail({.code = ErrorCode::kFileExists,
                 .what = "is there already",
                 .where = folder.string(),
                 .rule = "keys are never replaced",
                 .remedy = "remove it, or choose another folder"});
  }
  auto authority = Authority::init(disk, folder / "ca",
                                   {.federation = kFederation, .days = 365, .demo = true}, now);
  if (!authority) return fail(std::move(authority).error());
  Identity coordinator{.federation = kFederation,
                       .role = Role::kCoordinator,
                       .id = "coordinator",
                       .hosts = options.hosts,
                       .demo = true};
  if (auto added = add_party(disk, *authority, folder, coordinator, now); !added)
    return fail(std::move(added).error());
  for (const auto& id : options.clients) {
    const Identity client{.federation = kFederation, .role = Role::kClient, .id = id, .demo = true};
    if (auto added = add_party(disk, *authority, folder, client, now); !added)
      return fail(std::move(added).error());
  }
  auto list = disk.read_text(authority->crl_path());
  if (!list) return fail(std::move(list).error());
  if (auto copied = disk.write_atomic(folder / "coordinator" / "crl.pem", *list); !copied)
    return fail(std::move(copied).error());
  return authority->fingerprint();
}

}  // namespace strata::certs

#include "cli/certs.h"

#include <fmt/format.h>

#include "sys/secrecy.h"

namespace strata::cli {

std::int64_t wall_seconds(const sys::Clock& clock) {
  return certs::parse_utc(clock.utc()).value_or(0);
}

certs::KeyType key_type_of(const std::string& name) {
  return name == "p256" ? certs::KeyType::kP256 : certs::KeyType::kEd25519;
}

void add_key_type(CLI::App& command, std::string& value) {
  command.add_option("--key-type", value, "ed25519 (default) or p256")
      ->check(CLI::IsMember({"ed25519", "p256"}));
}

void add_role(CLI::App& command, std::string& value, const std::string& help) {
  command.add_option("--role", value, help)
      ->check(CLI::IsMember({"coordinator", "client", "admin"}));
}

nlohmann::ordered_json identity_json(const certs::Identity& identity) {
  return {{"federation", identity.federation},
          {"role", name(identity.role)},
          {"id", identity.id},
          {"hosts", identity.hosts},
          {"serial", identity.serial},
          {"spki_sha256", hex(identity.spki)},
          {"not_before", certs::utc_text(identity.not_before)},
          {"not_after", certs::utc_text(identity.not_after)},
          {"demo", identity.demo}};
}

std::string identity_text(const certs::Identity& identity) {
  std::string out = fmt::format("name        {}\n", uri_of(identity));
  if (!identity.hosts.empty())
    out += fmt::format("hosts       {}\n", fmt::join(identity.hosts, ", "));
  out += fmt::format("key         {}\nserial      {}\nvalid       {} to {}\n", hex(identity.spki),
                     identity.serial, certs::utc_text(identity.not_before),
                     certs::utc_text(identity.not_after));
  if (identity.demo) out += "DEMO: everybody may have its key\n";
  return out;
}

Result<certs::Node> load_own(Context& context, const certs::NodeFiles& files, certs::Role role) {
  sys::shut_memory();  // a key is in it from here on
  const std::int64_t now = wall_seconds(context.clock);
  auto node = certs::load_node(context.disk, files, role, now);
  if (!node) return node;
  for (const auto& line : certs::expiring(*node, files, now))
    context.progress.on({.name = "message", .fields = {{"text", line}}});
  return node;
}

}  // namespace strata::cli

// strata certs request, install, verify, demo: a party's own side.
#include <fmt/format.h>

#include "certs/demo.h"
#include "certs/node.h"
#include "cli/certs.h"
#include "cli/verbs/verbs.h"

namespace strata::cli {
namespace {

struct Options {
  std::string folder;
  std::string federation;
  std::string id;
  std::string role = "client";
  std::string key_type = "ed25519";
  std::string certificate;
  std::string ca_fingerprint;
  std::string crl;
  std::vector<std::string> hosts;
  std::vector<std::string> names;
  int clients = 0;
  bool renew = false;
};

Result<VerbOutput> request(Context& context, const Options& options) {
  const certs::Identity identity{.federation = options.federation,
                                 .role = *certs::role_of(options.role),
                                 .id = options.id,
                                 .hosts = options.hosts};
  auto made = certs::request(context.disk, options.folder, identity, key_type_of(options.key_type),
                             options.renew);
  if (!made) return fail(std::move(made).error());
  const std::string key = hex(made->spki);
  VerbOutput out;
  out.data = {{"name", uri_of(identity)},
              {"request", made->path.string()},
              {"key", (std::filesystem::path(options.folder) / "identity.key").string()},
              {"spki_sha256", key}};
  out.text = fmt::format(
      "name        {}\n"
      "key         {}\n"
      "Send {} to the authority, and tell it the key's number above by another way. The key "
      "itself stays here.\n",
      uri_of(identity), key, made->path.string());
  return out;
}

Result<VerbOutput> install(Context& context, const Options& options) {
  auto done = certs::install(context.disk, options.certificate, options.folder,
                             options.ca_fingerprint, wall_seconds(context.clock));
  if (!done) return fail(std::move(done).error());
  VerbOutput out;
  out.data = identity_json(*done);
  out.data["folder"] = options.folder;
  out.text = identity_text(*done) + fmt::format("installed   {}\n", options.folder);
  return out;
}

Result<VerbOutput> verify(Context& context, const Options& options) {
  auto files = certs::files_in(context.disk, options.folder);
  if (!options.crl.empty()) files.crl = options.crl;
  std::optional<certs::Role> role;
  if (!options.role.empty()) role = certs::role_of(options.role);
  auto node = certs::load_node(context.disk, files, role, wall_seconds(context.clock));
  if (!node) return fail(std::move(node).error());
  const std::string ca = hex(certs::fingerprint(*node->ca));
  VerbOutput out;
  out.data = identity_json(node->identity);
  out.data["ca_fingerprint"] = ca;
  out.data["crl_checked"] = node->crl != nullptr;
  out.text = identity_text(node->identity) + "authority   " + ca + "\n" +
             (node->crl ? "sound; not on the list of revoked certificates\n"
                        : "sound; no list of revoked certificates was looked at\n");
  return out;
}

Result<VerbOutput> demo(Context& context, const Options& options) {
  std::vector<std::string> ids = options.names;
  const std::size_t asked = static_cast<std::size_t>(options.clients);
  if (!ids.empty() && asked > 0 && ids.size() != asked) {
    return fail({.code = ErrorCode::kUsage,
                 .what = fmt::format("{} names for {} clients", ids.size(), asked),
                 .where = "--names",
                 .remedy = "leave one of --names and --clients out"});
  }
  if (ids.empty() && asked == 0) {
    return fail({.code = ErrorCode::kUsage,
                 .what = "no clients were asked for",
                 .remedy = "give --clients N or --names a,b,c"});
  }
  while (ids.size() < asked) ids.push_back(fmt::format("client-{}", ids.size() + 1));
  certs::DemoOptions kit{.clients = ids};
  if (!options.hosts.empty()) kit.hosts = options.hosts;
  auto made = certs::make_demo(context.disk, options.folder, kit, wall_seconds(context.clock));
  if (!made) return fail(std::move(made).error());
  VerbOutput out;
  out.data = {{"folder", options.folder}, {"federation", "demo"}, {"coordinator", "coordinator"},
              {"hosts", kit.hosts},       {"clients", ids},       {"ca_fingerprint", hex(*made)}};
  out.text = fmt::format(
      "{}: ca, coordinator ({}), {}\nDEMO: all keys lie in one folder; for trials only\n",
      options.folder, fmt::join(kit.hosts, ", "), fmt::join(ids, ", "));
  return out;
}

}  // namespace

Verb certs_request_verb() {
  return {.name = "certs request",
          .help = "make a key, which stays here, and a request to send to the authority",
          .example = "strata certs request --federation north --id clinic-a -o certs",
          .declare = [](CLI::App& command) -> RunVerb {
            const auto options = std::make_shared<Options>();
            command.add_option("--federation", options->federation, "its name")->required();
            command.add_option("--id", options->id, "our name in it")->required();
            add_role(command, options->role, "coordinator, client (default) or admin");
            command.add_option("--host", options->hosts,
                               "coordinator: a name or address clients call it by; repeatable");
            command
                .add_option("-o,--output-dir", options->folder,
                            "folder for key and request; the certificate comes here too")
                ->required();
            add_key_type(command, options->key_type);
            command.add_flag("--renew", options->renew, "ask again for the key that is there");
            return [options](Context& context) { return request(context, *options); };
          }};
}

Verb certs_install_verb() {
  return {.name = "certs install",
          .help = "put the certificate that the authority sent beside its key",
          .example = "strata certs install clinic-a.crt --ca-fingerprint 5f3a... -o certs",
          .declare = [](CLI::App& command) -> RunVerb {
            const auto options = std::make_shared<Options>();
            command.add_option("certificate", options->certificate, "what the authority sent")
                ->required();
            command
                .add_option("--ca-fingerprint", options->ca_fingerprint,
                            "the authority's, as you were told it by another way")
                ->required();
            command.add_option("-o,--output-dir", options->folder, "the folder with the key")
                ->required();
            return [options](Context& context) { return install(context, *options); };
          }};
}

Verb certs_verify_verb() {
  return {.name = "certs verify",
          .help = "whether a party's folder can be used, and if not, why",
          .example = "strata certs verify certs --role client",
          .declare = [](CLI::App& command) -> RunVerb {
            const auto options = std::make_shared<Options>();
            options->role.clear();
            command.add_option("folder", options->folder, "with key and certificate")->required();
            add_role(command, options->role, "what it must be for (default: whatever it is)");
            command.add_option("--crl", options->crl,
                               "list of revoked certificates (default: the folder's crl.pem)");
            return [options](Context& context) { return verify(context, *options); };
          }};
}

Verb certs_demo_verb() {
  return {.name = "certs demo",
          .help = "a whole federation's certificates in one folder, for trials",
          .example = "strata certs demo --clients 4 --host localhost -o runs/demo-certs",
          .declare = [](CLI::App& command) -> RunVerb {
            const auto options = std::make_shared<Options>();
            command.add_option("--clients", options->clients, "how many: client-1, client-2, ...")
                ->check(CLI::Range(1, 10000));
            command.add_option("--names", options->names, "their ids, separated by commas")
                ->delimiter(',');
            command.add_option("--host", options->hosts,
                               "of the coordinator (default localhost and 127.0.0.1); repeatable");
            command.add_option("-o,--output-dir", options->folder, "folder to make")->required();
            return [options](Context& context) { return demo(context, *options); };
          }};
}

}  // namespace strata::cli

// strata certs init, approve, revoke, list: what the person does who keeps a federation's
// authority.
#include <fmt/format.h>

#include <charconv>

#include "certs/authority.h"
#include "cli/certs.h"
#include "cli/table.h"
#include "cli/verbs/verbs.h"

namespace strata::cli {
namespace {

using certs::Authority;
using Json = nlohmann::ordered_json;

constexpr std::int64_t kDaySeconds = 86400;

struct Options {
  std::string ca;
  std::string federation;
  std::string key_type = "ed25519";
  std::string request;
  std::string output;
  std::string id;
  std::string role = "client";
  std::string reason = "unspecified";
  std::string expiring;
  int days = 0;
  bool rekey = false;
};

Result<VerbOutput> init(Context& context, const Options& options) {
  auto made = Authority::init(context.disk, options.ca,
                              {.federation = options.federation,
                               .days = options.days,
                               .key_type = key_type_of(options.key_type)},
                              wall_seconds(context.clock));
  if (!made) return fail(std::move(made).error());
  const std::string fingerprint = hex(made->fingerprint());
  VerbOutput out;
  out.data = {{"federation", options.federation},
              {"folder", options.ca},
              {"ca_fingerprint", fingerprint},
              {"not_after", certs::utc_text(made->not_after())}};
  out.text = fmt::format(
      "the authority of \"{}\" in {}, until {}\n"
      "fingerprint {}\n"
      "Tell the fingerprint to every party by another way than its files. Keep {}/ca.key on this "
      "machine, and a copy of the folder in a safe.\n",
      options.federation, options.ca, certs::utc_text(made->not_after()), fingerprint, options.ca);
  return out;
}

Result<VerbOutput> approve(Context& context, const Options& options) {
  auto authority = Authority::open(context.disk, options.ca);
  if (!authority) return fail(std::move(authority).error());
  std::filesystem::path output = options.output;
  if (output.empty())
    output = std::filesystem::path(options.request).replace_filename(options.id + ".crt");
  if (certs::valid_id(options.id) && context.disk.exists(output) && options.output.empty()) {
    return fail({.code = ErrorCode::kFileExists,
                 .what = "is there already",
                 .where = output.string(),
                 .remedy = "move it away, or name another with -o"});
  }
  auto done = authority->approve(options.request,
                                 {.expect_id = options.id,
                                  .expect_role = *certs::role_of(options.role),
                                  .days = options.days,
                                  .rekey = options.rekey},
                                 wall_seconds(context.clock));
  if (!done) return fail(std::move(done).error());
  if (auto written = context.disk.write_atomic(output, done->pem); !written)
    return fail(std::move(written).error());
  VerbOutput out;
  out.data = identity_json(done->identity);
  out.data["certificate"] = output.string();
  out.data["ca_fingerprint"] = hex(authority->fingerprint());
  out.data["revoked"] = done->revoked;
  out.text = identity_text(done->identity);
  for (const auto& serial : done->revoked)
    out.text += fmt::format("revoked     {} (its old key); give the coordinator {}\n", serial,
                            authority->crl_path().string());
  out.text += fmt::format("written     {}\n", output.string());
  return out;
}

Result<VerbOutput> revoke(Context& context, const Options& options) {
  auto authority = Authority::open(context.disk, options.ca);
  if (!authority) return fail(std::move(authority).error());
  auto done = authority->revoke(options.id, *certs::reason_of(options.reason),
                                wall_seconds(context.clock), options.days);
  if (!done) return fail(std::move(done).error());
  const std::string list = authority->crl_path().string();
  VerbOutput out;
  out.data = {{"id", options.id},
              {"revoked", done->serials},
              {"crl", list},
              {"crl_number", done->crl_number},
              {"crl_valid_until", certs::utc_text(done->valid_until)}};
  for (const auto& serial : done->serials)
    out.text += fmt::format("revoked {} of {}\n", serial, options.id);
  out.text += fmt::format("{}: number {}, valid until {}; give it to the coordinator\n", list,
                          done->crl_number, certs::utc_text(done->valid_until));
  return out;
}

Result<std::optional<std::int64_t>> parse_expiring(const std::string& text) {
  if (text.empty()) return std::optional<std::int64_t>();
  int days = -1;
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, days);
  const std::string_view unit(parsed.ptr, static_cast<std::size_t>(end - parsed.ptr));
  if (parsed.ec == std::errc() && days >= 0 && days <= 100000 && (unit.empty() || unit == "d"))
    return std::optional<std::int64_t>(days * kDaySeconds);
  return fail({.code = ErrorCode::kUsage,
               .what = "\"" + printable(text, 40) + "\" is no number of days",
               .where = "--expiring",
               .remedy = "for example --expiring 30d"});
}

std::string state_of(const certs::IssuedCertificate& entry, std::int64_t now) {
  if (entry.revoked_at) return "revoked";
  return entry.not_after <= now ? "expired" : "valid";
}

Result<VerbOutput> list(Context& context, const Options& options) {
  auto within = parse_expiring(options.expiring);
  if (!within) return fail(std::move(within).error());
  auto index = certs::read_index(context.disk, std::filesystem::path(options.ca) / "issued.json");
  if (!index) return fail(std::move(index).error());
  const std::int64_t now = wall_seconds(context.clock);
  Json entries = Json::array();
  std::vector<std::vector<std::string>> rows{{"id", "role", "state", "until", "days", "serial"}};
  for (const auto& entry : index->certificates) {
    if (*within && (entry.revoked_at || entry.not_after > now + **within)) continue;
    const std::int64_t days = (entry.not_after - now) / kDaySeconds;
    const std::string role(name(entry.role));
    const std::string state = state_of(entry, now);
    entries.push_back({{"id", entry.id},
                       {"role", role},
                       {"state", state},
                       {"serial", entry.serial},
                       {"spki_sha256", entry.spki_sha256},
                       {"not_after", certs::utc_text(entry.not_after)},
                       {"days_left", days}});
    if (entry.revoked_at) {
      entries.back()["revoked_at"] = certs::utc_text(*entry.revoked_at);
      entries.back()["reason"] = name(entry.reason);
    }
    rows.push_back({entry.id, role, state, certs::utc_text(entry.not_after), std::to_string(days),
                    entry.serial});
  }
  VerbOutput out;
  out.text = rows.size() == 1 ? "none\n" : table(rows);
  out.data = {{"federation", index->federation}, {"certificates", std::move(entries)}};
  return out;
}

void add_ca(CLI::App& command, Options& options) {
  command.add_option("--ca", options.ca, "the authority's folder")->required();
}

}  // namespace

Verb certs_init_verb() {
  return {.name = "certs init",
          .help = "make a federation's certificate authority, on a machine of its own",
          .example = "strata certs init --federation north -o ca",
          .declare = [](CLI::App& command) -> RunVerb {
            const auto options = std::make_shared<Options>();
            options->days = 3650;
            command.add_option("--federation", options->federation, "its name")->required();
            command.add_option("-o,--output-dir", options->ca, "folder to make")->required();
            command.add_option("--days", options->days, "how long it lasts (3650, the most)");
            add_key_type(command, options->key_type);
            return [options](Context& context) { return init(context, *options); };
          }};
}

Verb certs_approve_verb() {
  return {.name = "certs approve",
          .help = "sign a party's request, after asking the party for its id and key",
          .example = "strata certs approve clinic-a.csr --ca ca --expect-id clinic-a",
          .declare = [](CLI::App& command) -> RunVerb {
            const auto options = std::make_shared<Options>();
            options->days = 365;
            command.add_option("request", options->request, "what the party sent")->required();
            add_ca(command, *options);
            command.add_option("--expect-id", options->id, "who you know is asking")->required();
            add_role(command, options->role, "as what (default client)");
            command.add_option("--days", options->days, "how long it lasts (365; at most 397)");
            command.add_flag("--rekey", options->rekey,
                             "the id may have a new key; certificates of its old ones are revoked");
            command.add_option("-o,--output", options->output,
                               "file to write (default: ID.crt beside the request)");
            return [options](Context& context) { return approve(context, *options); };
          }};
}

Verb certs_revoke_verb() {
  return {.name = "certs revoke",
          .help = "take an id's certificates back; without an id, renew the list of revoked ones",
          .example = "strata certs revoke clinic-a --ca ca --reason key_compromise",
          .declare = [](CLI::App& command) -> RunVerb {
            const auto options = std::make_shared<Options>();
            options->days = Authority::kCrlDays;
            command.add_option("id", options->id, "whose");
            add_ca(command, *options);
            command.add_option("--reason", options->reason, "why (default unspecified)")
                ->check(CLI::IsMember(
                    {"unspecified", "key_compromise", "superseded", "cessation_of_operation"}));
            command.add_option("--crl-days", options->days,
                               "how long the list is valid (90); then nobody is let in");
            return [options](Context& context) { return revoke(context, *options); };
          }};
}

Verb certs_list_verb() {
  return {.name = "certs list",
          .help = "what an authority has signed",
          .example = "strata certs list --ca ca --expiring 30d",
          .declare = [](CLI::App& command) -> RunVerb {
            const auto options = std::make_shared<Options>();
            add_ca(command, *options);
            command.add_option("--expiring", options->expiring,
                               "only what runs out within so many days, e.g. 30d");
            return [options](Context& context) { return list(context, *options); };
          }};
}

}  // namespace strata::cli

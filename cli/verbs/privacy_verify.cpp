// strata privacy verify STATEMENT --ca CA [--crl CRL]: who promised what, and whether they signed
// it.
#include <fmt/format.h>

#include "cli/signed_statement.h"
#include "cli/table.h"
#include "cli/verbs/verbs.h"

namespace strata::cli {
namespace {

using json = nlohmann::ordered_json;

struct Options {
  std::string file;
  std::string authority;
  std::string revoked;
};

std::string text_of(const json& value) {
  return value.is_string() ? printable(value.get<std::string>(), 120)
                           : printable(value.dump(), 120);
}

Result<VerbOutput> verify(const Options& options, Context& context) {
  auto checked = read_signed_statement(context.disk, context.clock, options.file, options.authority,
                                       options.revoked);
  if (!checked) return fail(std::move(checked).error());
  VerbOutput out;
  out.data = {{"signed_by", uri_of(checked->signer)},
              {"statement", checked->statement},
              {"crl_checked", !options.revoked.empty()}};
  std::vector<std::vector<std::string>> rows{{"what", ""}};
  for (const char* key :
       {"signed_by", "time", "mode", "private", "PRIVATE", "unit", "adjacency", "adversary",
        "epsilon", "delta", "accountant", "max_clients_per_person", "rounds", "chain_hash"}) {
    const auto found = checked->statement.find(key);
    if (found != checked->statement.end()) rows.push_back({key, text_of(*found)});
  }
  rows.push_back({"revocation", options.revoked.empty() ? "not looked up" : "not revoked"});
  out.text = table(rows);
  return out;
}

}  // namespace

Verb privacy_verify_verb() {
  return {.name = "privacy verify",
          .help = "checks the signature of a client's privacy statement",
          .example = "strata privacy verify clinic-a/state/privacy.signed.json --ca ca.crt",
          .declare = [](CLI::App& command) -> RunVerb {
            auto options = std::make_shared<Options>();
            command.add_option("statement", options->file, "privacy.signed.json of a client")
                ->required();
            command
                .add_option("--ca", options->authority,
                            "certificate of the federation's authority (ca.crt)")
                ->required();
            command.add_option("--crl", options->revoked,
                               "its list of revoked certificates (crl.pem); default: nothing is "
                               "looked up");
            return [options](Context& context) { return verify(*options, context); };
          }};
}

}  // namespace strata::cli

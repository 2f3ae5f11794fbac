#include "cli/signed_statement.h"

#include "certs/signed_text.h"
#include "cli/private_run.h"

namespace strata::cli {
namespace {

using json = nlohmann::ordered_json;

constexpr int kFormat = 1;

std::int64_t seconds_of(const std::string& utc) { return certs::parse_utc(utc).value_or(0); }

Error no_statement(const std::filesystem::path& file, const std::string& what) {
  return {.code = ErrorCode::kFormat,
          .what = "is no signed statement: " + printable(what, 120),
          .where = file.string(),
          .rule = "strata client writes it to its state folder as privacy.signed.json"};
}

}  // namespace

Result<void> write_signed_statement(sys::Disk& disk, const sys::Clock& clock,
                                    const std::filesystem::path& file, const certs::NodeFiles& key,
                                    const Job& job, const privacy::Promise& promise,
                                    const ClientOutcome& outcome) {
  const std::string now = clock.utc();
  auto node = certs::load_node(disk, key, certs::Role::kClient, seconds_of(now));
  if (!node) return fail(std::move(node).error());
  json statement = statement_of(job, promise);
  statement["signed_by"] = uri_of(node->identity);
  statement["time"] = now;
  statement["rounds"] = outcome.finished.head.round;
  statement["chain_hash"] = hex(outcome.finished.head.chain);
  const std::string text = statement.dump();
  auto with = certs::sign_text(*node, text);
  if (!with) return fail(std::move(with).error());
  // The text as it was signed, not as a value: a reader writes a value in its own way.
  const json out{{"format", kFormat},
                 {"statement", text},
                 {"signature", with->signature},
                 {"certificate", with->certificate}};
  return disk.write_atomic(file, out.dump(2) + "\n");
}

Result<CheckedStatement> read_signed_statement(const sys::Disk& disk, const sys::Clock& clock,
                                               const std::filesystem::path& file,
                                               const std::filesystem::path& ca,
                                               const std::filesystem::path& crl) {
  const auto bytes = disk.read_text(file);
  if (!bytes) return fail(bytes.error());
  std::string text, time, signed_by;
  certs::SignedText with;
  CheckedStatement out;
  try {
    const json all = json::parse(*bytes);
    if (all.at("format") != kFormat) return fail(no_statement(file, "it has another format"));
    text = all.at("statement").get<std::string>();
    with = {.signature = all.at("signature").get<std::string>(),
            .certificate = all.at("certificate").get<std::string>()};
    out.statement = json::parse(text);
    time = out.statement.at("time").get<std::string>();
    signed_by = out.statement.at("signed_by").get<std::string>();
  } catch (const json::exception& e) {
    return fail(no_statement(file, e.what()));
  }
  auto signer = certs::check_signed_text(disk, text, with,
                                         {.ca = ca, .crl = crl, .now = seconds_of(clock.utc())},
                                         seconds_of(time), file.string());
  if (!signer) return fail(std::move(signer).error());
  if (signed_by != uri_of(*signer)) {
    return fail({.code = ErrorCode::kAuth,
                 .what = "was signed by " + uri_of(*signer) + ", and says otherwise",
                 .where = file.string(),
                 .rule = "a statement names who signs it"});
  }
  out.signer = std::move(*signer);
  return out;
}

}  // namespace strata::cli

// strata audit RUN: who came and went, who was not let in, what was rejected.
#include <fmt/format.h>

#include "cli/audit_trail.h"
#include "cli/verbs/verbs.h"

namespace strata::cli {
namespace {

// "2026-01-31T12:34:56Z  client_joined  client clinic-a, address 10.0.0.5:40112"
std::string line_of(const nlohmann::ordered_json& record) {
  std::string fields;
  for (const auto& [key, value] : record.items()) {
    if (key == "event" || key == "ts") continue;
    const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    fields += fmt::format("{}{} {}", fields.empty() ? "" : ", ", key, text);
  }
  return fmt::format("{}  {:<18}  {}\n", record.value("ts", ""), record.value("event", ""), fields);
}

Result<VerbOutput> run(const std::string& folder, Context& context) {
  auto records = read_audit_trail(context.disk, std::filesystem::path(folder) / kAuditFile);
  if (!records) return fail(std::move(records).error());
  VerbOutput out;
  out.data = {{"records", nlohmann::ordered_json::array()}, {"head", hex(records->head)}};
  for (const auto& line : records->lines) {
    auto record = nlohmann::ordered_json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!record.is_object()) {
      return fail({.code = ErrorCode::kDamaged,
                   .what = "holds a record that is no JSON object",
                   .where = (std::filesystem::path(folder) / kAuditFile).string()});
    }
    out.text += line_of(record);
    out.data["records"].push_back(std::move(record));
  }
  out.text += fmt::format("{} records, chained; the last is {}\n", records->lines.size(),
                          hex(records->head));
  return out;
}

}  // namespace

Verb audit_verb() {
  return {.name = "audit",
          .help = "who took part in a coordinator's run, and who was refused",
          .example = "strata audit runs/spring",
          .declare = [](CLI::App& command) -> RunVerb {
            auto folder = std::make_shared<std::string>();
            command.add_option("run", *folder, "run folder")->required();
            return [folder](Context& context) { return run(*folder, context); };
          }};
}

}  // namespace strata::cli

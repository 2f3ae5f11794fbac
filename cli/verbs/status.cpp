// strata status RUN: where a run stands, read from its journal; also while it is running.
#include <fmt/format.h>

#include "cli/run_folder.h"
#include "cli/run_journal.h"
#include "cli/verbs/verbs.h"

namespace strata::cli {
namespace {

namespace fs = std::filesystem;
using coordinator::Phase;

std::string phase_text(const coordinator::RoundMachine& m) {
  switch (m.phase()) {
    case Phase::kNotBegun:
      return "not begun";
    case Phase::kBetween:
      return fmt::format("between rounds; round {} is next", m.round());
    case Phase::kOpen:
      return fmt::format("round {} is open", m.round());
    case Phase::kClosed:
      return fmt::format("round {} is closed and not folded yet", m.round());
    case Phase::kDone:
      return "done";
  }
  return {};
}

std::string joined(const std::vector<std::string>& names) {
  return names.empty() ? "-" : fmt::format("{}", fmt::join(names, ", "));
}

Result<VerbOutput> run(const std::string& folder, Context& context) {
  if (context.disk.exists(fs::path(folder) / "manifest.json") &&
      !context.disk.exists(fs::path(folder) / kStateFolder)) {
    VerbOutput out;
    out.data = {{"phase", "done"}};
    out.text = "done; see " + folder + "/manifest.json\n";
    return out;
  }
  auto job = read_job(context.disk, fs::path(folder) / "config.json", {});
  if (!job) return fail(std::move(job).error());
  auto machine = read_run_journal(context.disk, folder, *job);
  if (!machine) return fail(std::move(machine).error());
  static constexpr std::string_view kPhases[] = {"not_begun", "between", "open", "closed", "done"};
  std::vector<std::string> accepted, out_names;
  for (const auto& [client, update] : machine->accepted()) accepted.push_back(client);
  for (const auto& [client, reason] : machine->out()) out_names.push_back(client);
  const bool at_round = machine->phase() == Phase::kOpen || machine->phase() == Phase::kClosed;
  const auto missing = at_round ? machine->missing() : std::vector<std::string>{};
  if (!at_round) accepted.clear(), out_names.clear();
  VerbOutput out;
  out.data = {{"phase", kPhases[static_cast<std::size_t>(machine->phase())]},
              {"round", machine->round()},
              {"rounds", machine->config().rounds},
              {"committed", machine->committed().size()},
              {"chain_hash", hex(machine->head().chain)},
              {"accepted", accepted},
              {"missing", missing},
              {"left_out", out_names}};
  out.text = fmt::format("{} of {} rounds committed; {}\n", machine->committed().size(),
                         machine->config().rounds, phase_text(*machine));
  if (at_round) {
    out.text += fmt::format("accepted  {}\nmissing   {}\nleft out  {}\n", joined(accepted),
                            joined(missing), joined(out_names));
  }
  return out;
}

}  // namespace

Verb status_verb() {
  return {.name = "status",
          .help = "where a run stands",
          .example = "strata status runs/spring",
          .declare = [](CLI::App& command) -> RunVerb {
            auto folder = std::make_shared<std::string>();
            command.add_option("run", *folder, "run folder")->required();
            return [folder](Context& context) { return run(*folder, context); };
          }};
}

}  // namespace strata::cli

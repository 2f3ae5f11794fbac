// strata privacy ledger init | show | verify: the data owner's record of what was spent.
#include <fmt/format.h>

#include <algorithm>

#include "cli/owner_ledger.h"
#include "cli/table.h"
#include "cli/verbs/verbs.h"
#include "privacy/ledger/records.h"

namespace strata::cli {
namespace {

namespace fs = std::filesystem;
using json = nlohmann::ordered_json;

struct Options {
  std::string folder;
  bool new_dataset = false;
  bool any_filesystem = false;
};

// Computing epsilon needs the data set's own adjacency, which only the ledger knows: so each data
// set is asked for by a ledger opened for it.
ledger::Tools tools_of(const Options& options, Context& context, privacy::Adjacency adjacency) {
  ledger::Tools out{
      .disk = context.disk, .clock = context.clock, .epsilon_of = epsilon_of(adjacency, 1e-3)};
  if (options.any_filesystem) out.filesystem_of = nullptr;
  return out;
}

Result<VerbOutput> init(const Options& options, Context& context) {
  if (!options.new_dataset) {
    return fail({.code = ErrorCode::kUsage,
                 .what = "--new-dataset is not given",
                 .rule = "an empty ledger says that nothing was ever spent on the data",
                 .remedy = "say so with --new-dataset, or put the old ledger back"});
  }
  auto folder = ledger_folder(options.folder);
  if (!folder) return fail(std::move(folder).error());
  auto begun =
      ledger::Ledger::create(tools_of(options, context, privacy::Adjacency::kAddRemove), *folder);
  if (!begun) return fail(std::move(begun).error());
  VerbOutput out;
  out.data = {{"folder", folder->string()}};
  out.text = "an empty ledger was begun in " + folder->string() + "\n";
  return out;
}

struct Reading {
  fs::path path;
  ledger::Lines lines;
  ledger::State state;
};

Result<Reading> read(const fs::path& folder, Context& context) {
  Reading out{.path = folder / "ledger.jsonl", .lines = {}, .state = {}};
  auto text = context.disk.read_text(out.path);
  if (!text) return fail(std::move(text).error());
  auto lines = ledger::read_lines(*text, out.path.string());
  if (!lines) return fail(std::move(lines).error());
  auto state = ledger::read_records(*lines, out.path.string());
  if (!state) return fail(std::move(state).error());
  out.lines = std::move(*lines);
  out.state = std::move(*state);
  return out;
}

std::string head_of(const Reading& reading) {
  return reading.lines.all.empty() ? "" : hex(reading.lines.all.back().hash);
}

Result<VerbOutput> show(const Options& options, Context& context) {
  auto folder = ledger_folder(options.folder);
  if (!folder) return fail(std::move(folder).error());
  auto reading = read(*folder, context);
  if (!reading) return fail(std::move(reading).error());
  VerbOutput out;
  std::vector<std::vector<std::string>> rows{
      {"data set", "unit", "adjacency", "rounds", "released", "epsilon", "cap", "delta", "state"}};
  json list = json::array();
  for (const auto& [name, opened] : reading->state.datasets) {
    auto own = ledger::Ledger::open(
        tools_of(options, context, privacy::adjacency_of(opened.terms.adjacency)), *folder);
    if (!own) return fail(std::move(own).error());
    auto spent = own->spent(name);
    if (!spent) return fail(std::move(spent).error());
    std::size_t charged = 0, released = 0;
    for (const auto& r : reading->state.reserved) {
      if (r.dataset != name) continue;
      ++charged;
      released += r.update ? 1 : 0;
    }
    rows.push_back({name, opened.terms.unit, opened.terms.adjacency, std::to_string(charged),
                    std::to_string(released), number_text(*spent, 4),
                    fmt::format("{:g}", opened.terms.epsilon_cap),
                    fmt::format("{:g}", opened.terms.delta), opened.closed ? "closed" : "open"});
    list.push_back({{"name", name},
                    {"unit", opened.terms.unit},
                    {"adjacency", opened.terms.adjacency},
                    {"rounds_charged", charged},
                    {"rounds_released", released},
                    {"epsilon", *spent},
                    {"epsilon_cap", opened.terms.epsilon_cap},
                    {"delta", opened.terms.delta},
                    {"closed", opened.closed}});
  }
  out.data = {{"folder", folder->string()},
              {"records", reading->lines.all.size()},
              {"head", head_of(*reading)},
              {"datasets", list}};
  out.text = table(rows);
  return out;
}

Result<VerbOutput> verify(const Options& options, Context& context) {
  auto folder = ledger_folder(options.folder);
  if (!folder) return fail(std::move(folder).error());
  // Opening checks the key and every file of rows is checked where it is read.
  auto opened =
      ledger::Ledger::open(tools_of(options, context, privacy::Adjacency::kAddRemove), *folder);
  if (!opened) return fail(std::move(opened).error());
  auto reading = read(*folder, context);
  if (!reading) return fail(std::move(reading).error());
  VerbOutput out;
  out.data = {{"folder", folder->string()},
              {"records", reading->lines.all.size()},
              {"head", head_of(*reading)},
              {"torn_bytes", reading->lines.cut_bytes}};
  out.text = fmt::format("{} records, each as it was written, up to {}\n",
                         reading->lines.all.size(), head_of(*reading).substr(0, 16));
  return out;
}

Verb verb(std::string_view name, std::string_view help, std::string_view example,
          Result<VerbOutput> (*work)(const Options&, Context&), bool begins) {
  return {.name = name,
          .help = help,
          .example = example,
          .declare = [work, begins](CLI::App& command) -> RunVerb {
            auto options = std::make_shared<Options>();
            command.add_option("--ledger", options->folder,
                               "folder of the ledger (default: the user's own)");
            command.add_flag("--any-file-system", options->any_filesystem,
                             "the file system is known to lock and to keep");
            if (begins)
              command.add_flag("--new-dataset", options->new_dataset,
                               "nothing was ever spent on the data");
            return [options, work](Context& context) { return work(*options, context); };
          }};
}

}  // namespace

Verb privacy_ledger_init_verb() {
  return verb("privacy ledger init", "begin a ledger for data that was never used",
              "strata privacy ledger init --new-dataset", init, true);
}

Verb privacy_ledger_show_verb() {
  return verb("privacy ledger show", "what each data set has spent", "strata privacy ledger show",
              show, false);
}

Verb privacy_ledger_verify_verb() {
  return verb("privacy ledger verify", "check every record of a ledger",
              "strata privacy ledger verify", verify, false);
}

}  // namespace strata::cli

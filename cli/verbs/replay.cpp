// strata replay RUN: recomputes rounds from what their clients sent, and compares the hashes.
#include <fmt/format.h>

#include "cli/assemble.h"
#include "cli/federation.h"
#include "cli/run_folder.h"
#include "cli/run_journal.h"
#include "cli/table.h"
#include "cli/verbs/verbs.h"
#include "coordinator/updates/round_file.h"
#include "model/fold.h"

namespace strata::cli {
namespace {

namespace fs = std::filesystem;
using coordinator::Coordinator;

constexpr std::string_view kNoisy =
    "The coordinator's noise is kept nowhere, so that no round of client_central can be computed "
    "again: compared were what clients sent, as far as it was kept, the results and the chain.";

struct Options {
  std::string folder;
  std::uint32_t round = 0;  // 0: all
};

// A committed round as the journal tells it.
struct Committed {
  coordinator::RoundCommitted result;
  std::vector<protocol::ClientId> contributors;
  std::map<protocol::ClientId, coordinator::UpdateAccepted> accepted;
};

struct History {
  coordinator::RunOpened opened;
  std::vector<Committed> rounds;
};

Result<History> history_of(const sys::Disk& disk, const fs::path& folder, const Job& job) {
  History out;
  Committed closed;
  auto machine = read_run_journal(disk, folder, job, [&](const auto& record, const auto& m) {
    if (std::holds_alternative<coordinator::RoundClosed>(record)) {
      closed.contributors = m.contributors();
      closed.accepted = m.accepted();
    } else if (const auto* r = std::get_if<coordinator::RoundCommitted>(&record)) {
      closed.result = *r;
      out.rounds.push_back(std::move(closed));
      closed = {};
    }
  });
  if (!machine) return fail(std::move(machine).error());
  out.opened = machine->opened();
  return out;
}

std::string brief(const Sha256& hash) { return hex(hash).substr(0, 16); }

// Without computing it: from what the round came to.
Result<void> skip(Coordinator& core, const Committed& round, const fs::path& state,
                  const sys::Disk& disk) {
  const fs::path path = state / "results" / fmt::format("{:04}", round.result.round);
  auto file = disk.map(path);
  if (!file) return fail(std::move(file).error());
  const ByteSpan bytes = (*file)->bytes();
  if (sha256(bytes) != round.result.result) {
    return fail({.code = ErrorCode::kDamaged,
                 .what = "has hash " + brief(sha256(bytes)),
                 .where = path.string(),
                 .rule = "the journal says " + brief(round.result.result)});
  }
  auto change = protocol::RoundChange::parse(bytes, model::tensor_shapes(core.model()));
  if (!change) return fail(std::move(change).error(), path.string());
  return core.resume(std::move(*change), round.result.chain);
}

Result<void> compare(const char* what, const Sha256& now, const Sha256& then, std::uint32_t round) {
  if (now == then) return {};
  return fail({.code = ErrorCode::kDamaged,
               .what = fmt::format("recomputed, its {} has hash {}", what, brief(now)),
               .where = fmt::format("round {}", round),
               .rule = "the journal says " + brief(then),
               .remedy = "the same binary on a processor with the same instructions gives the "
                         "same bytes; the manifest names both"});
}

Result<void> check_updates(const fs::path& path, const sys::Disk& disk) {
  if (disk.exists(path)) return {};
  return fail({.code = ErrorCode::kFileMissing,
               .what = "is not there",
               .where = path.string(),
               .rule = "a round is recomputed from the updates of its clients",
               .remedy = "runs keep them with output.keep_updates: true"});
}

Result<void> check_contributions(coordinator::RoundFile& file, const Committed& round,
                                 const fs::path& path) {
  for (const auto& client : round.contributors) {
    const auto& record = round.accepted.at(client);
    auto hash = file.hash(record.offset, record.size);
    if (!hash) return fail(std::move(hash).error());
    if (*hash == record.update) continue;
    return fail({.code = ErrorCode::kDamaged,
                 .what = fmt::format("the update of {} has hash {}", client, brief(*hash)),
                 .where = path.string(),
                 .rule = "the journal says " + brief(record.update)});
  }
  return {};
}

Result<void> recompute(Coordinator& core, const Committed& round, const Job& job,
                       const fs::path& state, sys::Disk& disk) {
  const fs::path path = state / "updates" / fmt::format("{:04}", round.result.round);
  if (auto kept = check_updates(path, disk); !kept) return kept;
  const auto shared = adapter::shared_stream(static_cast<std::uint64_t>(job.training.seed));
  coordinator::RoundFile file(disk, path, sys::Durability::kProcess,
                              {{shared, round.result.round}, model::tensor_shapes(core.model())});
  if (auto same = check_contributions(file, round, path); !same) return same;
  for (const auto& client : round.contributors) {
    const auto& record = round.accepted.at(client);
    auto update = file.open(client, record.offset, record.size, job.aggregation.encoding);
    if (!update) return fail(std::move(update).error());
    if (auto taken = core.accept(std::move(*update)); !taken) return taken;
  }
  auto report = core.close();
  if (!report) return fail(std::move(report).error());
  const std::uint32_t number = round.result.round;
  auto same = compare("packet", report->packet, round.result.packet, number);
  if (same)
    same = compare("result", sha256(report->aggregate.bytes()), round.result.result, number);
  if (same) same = compare("chain", report->chain, round.result.chain, number);
  return same;
}

// Of a round with noise of its coordinator's: that what clients sent, where it was kept, what the
// round came to, and the chain are those of the journal.
Result<void> check_kept(Coordinator& core, const Committed& round, const Job& job,
                        const fs::path& state, sys::Disk& disk) {
  const fs::path path = state / "updates" / fmt::format("{:04}", round.result.round);
  if (job.output.keep_updates) {
    if (auto kept = check_updates(path, disk); !kept) return kept;
    coordinator::RoundFile file(disk, path, sys::Durability::kProcess);
    if (auto same = check_contributions(file, round, path); !same) return same;
  }
  return skip(core, round, state, disk);
}

Result<VerbOutput> replay(const Options& options, Context& context) {
  const fs::path folder = options.folder, state = folder / kStateFolder;
  auto job = read_job(context.disk, folder / "config.json", {});
  if (!job) return fail(std::move(job).error());
  if (!context.disk.exists(state)) {
    return fail(
        {.code = ErrorCode::kFileMissing,
         .what = "is not there",
         .where = state.string(),
         .rule = "a run that is complete keeps its journal with output.keep_updates: true"});
  }
  auto history = history_of(context.disk, folder, *job);
  if (!history) return fail(std::move(history).error());
  if (options.round > history->rounds.size()) {
    return fail({.code = ErrorCode::kUsage,
                 .what = fmt::format("--round {}", options.round),
                 .rule = fmt::format("{} rounds are committed", history->rounds.size())});
  }
  auto federation = assemble_coordinator(context.disk, *job, context.threads);
  if (!federation) return fail(std::move(federation).error());
  Coordinator core = std::move(federation->coordinator);
  if (core.chain() != history->opened.base) {
    return fail({.code = ErrorCode::kConfig,
                 .what = "has hash " + brief(core.chain()),
                 .where = job->model.path,
                 .rule = "the run began with " + brief(history->opened.base),
                 .remedy = "give the base model of the run at that path"});
  }
  const bool noisy = job->privacy.mode == "client_central";
  VerbOutput out;
  out.data["rounds"] = nlohmann::ordered_json::array();
  if (noisy) out.data["not_recomputed"] = kNoisy;
  std::vector<std::vector<std::string>> rows{{"round", "contributions", "packet", "model", ""}};
  for (const auto& round : history->rounds) {
    const std::uint32_t number = round.result.round;
    const bool wanted = options.round == 0 || options.round == number;
    auto done = !wanted ? skip(core, round, state, context.disk)
                : noisy ? check_kept(core, round, *job, state, context.disk)
                        : recompute(core, round, *job, state, context.disk);
    if (!done) return fail(std::move(done).error());
    if (!wanted) continue;
    out.data["rounds"].push_back({{"round", number},
                                  {"clients", round.contributors},
                                  {"packet_hash", hex(round.result.packet)},
                                  {"chain_hash", hex(round.result.chain)},
                                  {noisy ? "kept" : "same", true}});
    rows.push_back({std::to_string(number), std::to_string(round.contributors.size()),
                    brief(round.result.packet), brief(round.result.chain),
                    noisy ? "as journaled" : "the same"});
    if (options.round == number) break;
  }
  out.text = table(rows);
  if (noisy) out.text += std::string(kNoisy) + "\n";
  return out;
}

}  // namespace

Verb replay_verb() {
  return {.name = "replay",
          .help = "a run's rounds computed again and compared",
          .example = "strata replay runs/spring --round 3",
          .declare = [](CLI::App& command) -> RunVerb {
            auto options = std::make_shared<Options>();
            command.add_option("run", options->folder, "run folder")->required();
            command.add_option("--round", options->round, "only this one (default: all)")
                ->check(CLI::PositiveNumber);
            return [options](Context& context) { return replay(*options, context); };
          }};
}

}  // namespace strata::cli

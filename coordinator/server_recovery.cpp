// From the journal to where the run stood.
#include <fmt/format.h>

#include "coordinator/server.h"
#include "model/fold.h"
#include "sys/temporary_files.h"

namespace strata::coordinator {

Result<std::unique_ptr<Server>> Server::open(ServerConfig config, Coordinator core,
                                             ServerTools tools) {
  std::unique_ptr<Server> out(new Server(std::move(config), std::move(core), tools));
  if (auto recovered = out->recover(); !recovered) return fail(std::move(recovered).error());
  return out;
}

Result<void> Server::recover() {
  sys::Disk& disk = tools_.disk;
  if (auto made = disk.create_private_directory(config_.folder); !made) return made;
  auto lock = disk.lock(config_.folder / "lock");
  if (!lock) return fail(std::move(lock).error());
  lock_ = std::move(*lock);
  for (const char* folder : {"journal", "updates", "results"}) {
    if (auto made = disk.create_private_directory(config_.folder / folder); !made) return made;
  }
  std::vector<journal::Record> records;
  auto journal = journal::Journal::open(disk, config_.folder / "journal" / "000001.log",
                                        kRoundJournal, records, config_.durability);
  if (!journal) return fail(std::move(journal).error());
  journal_ = std::make_unique<journal::Journal>(std::move(*journal));
  if (journal_->cut_bytes() > 0) {
    tools_.observer.noticed(fmt::format("{} bytes of a record that a crash cut short were removed",
                                        journal_->cut_bytes()));
  }
  for (const auto& record : records) {
    auto round = round_record(record);
    if (!round) return fail(std::move(round).error());
    if (auto applied = machine_.apply(*round); !applied) return applied;
    tools_.observer.replayed(*round);
    if (std::holds_alternative<RunOpened>(*round)) {
      if (auto ours = check_run(); !ours) return ours;
    }
  }
  // A process that was killed leaves its temporary files and snapshots.
  for (const auto& folder : {config_.folder, config_.folder / "results"}) {
    if (auto gone = sys::remove_temporaries(disk, folder); !gone) return gone;
  }
  auto names = disk.list(config_.folder);
  if (!names) return fail(std::move(names).error());
  for (const auto& name : *names) {
    if (!name.starts_with("snapshot-")) continue;
    if (auto gone = disk.remove_all(config_.folder / name); !gone) return gone;
  }
  if (auto folded = refold(); !folded) return folded;
  return reopen_updates();
}

Result<void> Server::check_run() const {
  const auto refuse = [&](std::string what, std::string remedy) {
    return fail({.code = ErrorCode::kConfig,
                 .what = std::move(what),
                 .where = config_.folder.string(),
                 .rule = "a run goes on with the job and the base model that began it",
                 .remedy = std::move(remedy)});
  };
  if (machine_.opened().plan != config_.plan)
    return refuse("is the state of a run with another plan",
                  "give the job file of that run, or start anew with --force");
  if (machine_.opened().base != core_.chain())
    return refuse("is the state of a run on another base model", "give the model of that run");
  return {};
}

// The model as it was after the last committed round.
Result<void> Server::refold() {
  const auto shapes = model::tensor_shapes(core_.model());
  for (const auto& round : machine_.committed()) {
    const auto path = result_path(round.round);
    auto file = tools_.disk.map(path);
    if (!file)
      return fail(std::move(file).error(),
                  "reading what round " + std::to_string(round.round) + " came to");
    const auto bytes = (*file)->bytes();
    if (bytes.size() != round.size || sha256(bytes) != round.result) {
      return fail({.code = ErrorCode::kDamaged,
                   .what = "has hash " + hex(sha256(bytes)).substr(0, 12),
                   .where = path.string(),
                   .rule = "the journal says " + hex(round.result).substr(0, 12),
                   .remedy = "restore the file from a copy"});
    }
    auto change = protocol::RoundChange::parse(bytes, shapes);
    if (!change) return fail(std::move(change).error(), path.string());
    if (auto seen = tools_.observer.resumed(*change, round, core_); !seen) return seen;
    if (auto folded = core_.resume(std::move(*change), round.chain); !folded) return folded;
    objects_[round.result] = {path, round.size};
  }
  if (machine_.phase() == Phase::kDone) core_.settle();
  return {};
}

// The updates that were accepted for the round at hand. What the disk has lost is asked for again
// as long as that is possible.
Result<void> Server::reopen_updates() {
  const Phase phase = machine_.phase();
  auto names = tools_.disk.list(config_.folder / "updates");
  if (!names) return fail(std::move(names).error());
  for (const auto& name : *names) {  // of rounds that are over
    const auto path = config_.folder / "updates" / name;
    const bool needed = phase == Phase::kOpen || phase == Phase::kClosed || machine_.rounds_left();
    if (config_.keep_updates || (needed && path == updates_path(machine_.round()))) continue;
    if (auto gone = tools_.disk.remove_all(path); !gone) return gone;
  }
  if (phase != Phase::kOpen && phase != Phase::kClosed) return {};
  updates_ = round_file(machine_.round());
  const auto accepted = machine_.accepted();
  std::vector<protocol::ClientId> lost;
  for (const auto& [client, record] : accepted) {
    if (auto kept = updates_->keep_until(record.offset + record.size); !kept) return kept;
    auto hash = updates_->hash(record.offset, record.size);
    if (hash && *hash == record.update) {
      auto update = updates_->open(client, record.offset, record.size, config_.encoding);
      if (!update) return fail(std::move(update).error(), "an accepted update");
      kept_[client] = std::move(*update);
      continue;
    }
    if (phase == Phase::kClosed) {
      return fail({.code = ErrorCode::kDamaged,
                   .what = "does not hold the update of " + client + " any more",
                   .where = updates_path(machine_.round()).string(),
                   .rule = "the round was closed with it",
                   .remedy = "restore the file from a copy"});
    }
    lost.push_back(client);
  }
  const auto journal_now = [this](const RoundRecord& record) {
    auto done = append(*journal_, record);
    if (done) done = journal_->sync();
    if (done) done = machine_.apply(record);
    if (done) tools_.observer.replayed(record);
    return done;
  };
  for (const auto& client : lost) {
    if (auto done = journal_now(UpdateLost{machine_.round(), client}); !done) return done;
    tools_.observer.noticed("the update of " + client + " was damaged on the disk; asking again");
  }
  return machine_.hopeless(false) ? journal_now(RoundReopened{machine_.round()}) : Result<void>{};
}

}  // namespace strata::coordinator

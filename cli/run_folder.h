#pragma once
// The folder a run leaves: config.json (every default filled in), metrics.jsonl, rounds/0001 ...
// (each round's update as a PEFT adapter, with strata.json beside it), adapter/ (the whole change
// against the original base), model/ and checkpoints/000010 ... when asked for, manifest.json with
// the hash of every file. The manifest is written last: a run with one is complete.
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "cli/assemble.h"

namespace strata::cli {

struct RunSummary;

/// Below a run folder: what an unfinished run goes on from.
inline constexpr const char* kStateFolder = "state";
/// Below that: the state folders of the other ranks of a mesh.
inline constexpr const char* kRanksFolder = "ranks";

/// What metrics.jsonl says of a round.
struct ToldRound {
  std::set<std::string> clients;  // with a client_round
  bool aggregate = false;
};

class RunFolder {
 public:
  /// `reports` false: nothing is ever written.
  RunFolder(sys::Disk& disk, std::filesystem::path folder, const Job& job, bool reports = true)
      : disk_(disk), folder_(std::move(folder)), job_(job), reports_(reports) {}

  /// `statement`: of what the run promises.
  [[nodiscard]] Result<void> begin(const TextSide& text, const std::vector<ClientData>& data,
                                   const nlohmann::ordered_json& statement);
  [[nodiscard]] Result<void> write_round(const coordinator::RoundReport& report,
                                         const coordinator::Coordinator& coordinator);
  /// A round that an earlier process wrote.
  [[nodiscard]] Result<void> resume_round(const protocol::RoundChange& change);
  /// What an earlier process told of a round before it ended; nothing without metrics.
  [[nodiscard]] ToldRound told_of(std::uint32_t round) const;
  [[nodiscard]] Result<void> finish(const model::Model& model, const RunSummary& summary);

 private:
  /// The round's change as terms, counted into the whole change.
  [[nodiscard]] Result<adapter::DeltaTerms> count(const protocol::RoundChange& change);
  [[nodiscard]] Result<void> write_adapter(const std::filesystem::path& folder,
                                           const adapter::DeltaTerms& delta,
                                           const model::Model& model);
  [[nodiscard]] Result<void> write_model(const std::filesystem::path& folder,
                                         const model::Model& model);
  /// The model after `round`, when it is one of those to be kept; then the latest are left.
  [[nodiscard]] Result<void> write_checkpoint(std::uint32_t round, const model::Model& model);

  sys::Disk& disk_;
  std::filesystem::path folder_;
  const Job& job_;
  bool reports_;
  adapter::DeltaTerms total_;  // the change against the original base: exact stack over rounds, or
                               // the last averaged factors
  bool low_rank_ = true;
};

}  // namespace strata::cli

#pragma once
// A whole federation in one process: rounds of local training, aggregation, evaluation; the run
// folder. Clients that may train side by side do, each in its own thread; what comes out does not
// depend on how many.
#include <functional>
#include <string>
#include <vector>

#include "cli/assemble.h"
#include "client/peers.h"
#include "coordinator/server.h"
#include "evaluation/evaluator.h"
#include "observe/observer.h"
#include "sys/clock.h"
#include "sys/executor.h"
#include "transport/transport.h"

namespace strata::cli {

struct RunTools {
  sys::Disk& disk;
  const sys::Clock& clock;
  observe::Observer& observer;
  std::function<bool()> stopped;
  int threads = 1;                    // of the machine, for this run
  std::uint32_t rounds_finished = 0;  // counted by the run: folded and in the run folder
  /// Called when the run's folder is this process's alone, before anything is told. May be empty.
  std::function<Result<void>()> begun = {};
  /// Called when the run cannot go on in this process, while the folder is still its own. May be
  /// empty.
  std::function<void(const Error&)> stopping = {};
};

/// One client's line of the closing table.
struct ClientSummary {
  std::string name;
  std::size_t rank = 0;
  std::size_t records = 0;
  std::size_t bytes_up = 0;
  std::size_t bytes_down = 0;
  std::size_t rounds = 0;  // in which its update was used
  double loss_before =
      0.0;  // of the global model on the client's own records; NaN when not measured
  double loss_after = 0.0;
};

struct EvaluationSummary {
  std::uint32_t round = 0;  // 0: before any training
  double loss = 0.0;
  bool images = false;
  double perplexity = 0.0;  // of text
  double accuracy = 0.0;    // share of trained tokens, or images, that were the likeliest
  std::uint64_t trained_tokens = 0;
  double exact_match = -1.0;  // share of held-out answers, -1: not measured
};

struct RunSummary {
  std::vector<ClientSummary> clients;
  std::vector<EvaluationSummary> evaluations;
  std::vector<coordinator::RoundReport> rounds;  // packets emptied
  std::vector<std::string> refused;              // "round 2: client b: ..."
  Sha256 final_model{};
  std::optional<privacy::Promise> promise;  // of a private run
  std::size_t tokens = 0;
  double train_seconds = 0.0;  // sum over clients
  double seconds = 0.0;
  std::size_t peak_memory_bytes = 0;
};

/// The rounds of a job as a server runs them; folder, durability and what clients are told of the
/// plan are the caller's.
[[nodiscard]] coordinator::ServerConfig server_config(
    const Job& job, std::span<const coordinator::PlannedUpdate> planned, const model::Model& base);

/// Where the clients of a run are: in this process, unless a listener is made for those elsewhere.
struct Hosting {
  std::function<Result<std::unique_ptr<transport::Listener>>(sys::Executor&, observe::Observer&)>
      listener = {};
  sys::Durability durability = sys::Durability::kProcess;
  std::shared_ptr<sys::Loop> loop = nullptr;  // for transports that outlive the run
  bool keeps_state = false;                   // for clients that come back after the end
  /// In a mesh: what the other members have of the clients, and get of ours; started.
  std::function<Result<std::unique_ptr<client::Peers>>(sys::Executor&)> peers = {};
  std::size_t members = 1;  // of the mesh
  std::size_t member = 0;   // which of them this is
  std::function<std::string(std::size_t member)> member_name = {};
  bool reports = true;  // false: the run folder is for the state alone; another member reports
};

/// Runs all rounds and writes the run folder `directory` (which exists): resolved config, metrics
/// through the observer, a PEFT adapter per round, the final adapter and, when asked for, the
/// merged model. Goes on with an unfinished run of the same job whose state lies there.
[[nodiscard]] Result<RunSummary> run_federation(Federation federation, const Job& job,
                                                const std::string& directory, RunTools& tools,
                                                const Hosting& hosting = {});

}  // namespace strata::cli

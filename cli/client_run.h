#pragma once
// Clients of a run whose coordinator is elsewhere: one of a site, or several of a cluster's rank.
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "cli/assemble.h"
#include "cli/federation.h"
#include "client/session.h"
#include "transport/transport.h"

namespace strata::cli {

struct ClientHosting {
  std::function<Result<std::unique_ptr<transport::Dialer>>(sys::Executor&, const std::string& id)>
      dialer;
  std::filesystem::path state;  // below it, a folder for each client
  sys::Durability durability = sys::Durability::kMachine;
  /// Attempts to connect without success before it gives up; 0: never.
  int attempts_max = 0;
  std::shared_ptr<sys::Loop> loop = nullptr;  // for transports that outlive the run
  bool wants_model = false;                   // the final one, in site.base
};

/// What became of it.
struct ClientOutcome {
  protocol::Finished finished;
  std::size_t rounds = 0;  // trained, all clients together
  std::size_t tokens = 0;
  double seconds = 0.0;
};

/// Takes part until the run is over. kInterrupted after a
/// signal; the same command goes on.
[[nodiscard]] Result<ClientOutcome> run_clients(Site& site, const Job& job,
                                                const ClientHosting& hosting, RunTools& tools);

/// The plan that the coordinator has for a client, asked for in a conversation of its own.
[[nodiscard]] Result<std::string> fetch_plan(const model::Model& base, const std::string& client,
                                             const ClientHosting& hosting, RunTools& tools);

}  // namespace strata::cli

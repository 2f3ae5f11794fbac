#pragma once
// Rounds without a coordinator in their middle: every member of a cluster has a round machine of
// its own, which hears of all clients, and the members give each other what their own clients
// trained. So each merges the same updates by the same rules into the same bits, and the journal,
// resuming and reports of each are those of a run in one process.
//
// For every client of another member there is a connection to that member in the client's name.
// Over it go messages of protocol/messages.h: ROUND_OPEN asks for the client's update of a round
// when there is one, OFFER or FAILED answers; FETCH and CHUNK bring it; FINISHED says that this
// member needs nothing more. An update is shown when it lies in the outbox of its client, and for
// one round longer: a member that was killed and is back may still need it.
//
// One owner, one cluster: members believe each other. Threads: everything in the executor's.
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "client/outbox.h"
#include "client/round_worker.h"
#include "protocol/messages.h"
#include "sys/executor.h"
#include "transport/transport.h"

namespace strata::client {

/// Seconds.
struct PeersOptions {
  double pause = 0.2;    // between attempts to reach a member
  double patience = 30;  // for one that cannot be reached
  double farewell = 10;  // at the end, for one that is gone
};

class Peers {
 public:
  /// To the member that has the client, in the client's name.
  using Dial = std::function<std::unique_ptr<transport::Dialer>(const protocol::ClientId&)>;

  /// `others`: members beside this one, each of which asks for every client of ours.
  Peers(sys::Executor& executor, std::unique_ptr<transport::Listener> listener, Dial dial,
        std::size_t others, PeersOptions options = {});
  ~Peers();
  Peers(const Peers&) = delete;
  Peers& operator=(const Peers&) = delete;

  /// What trains for a client of ours: `worker`, whose updates are shown to the others from when
  /// they are released. The outbox keeps updates, and outlives this. `discreet`: why a round failed
  /// is not told.
  [[nodiscard]] std::unique_ptr<RoundWorker> share(const protocol::ClientId& client,
                                                   std::unique_ptr<RoundWorker> worker,
                                                   const Outbox& outbox, bool discreet);
  /// What "trains" for a client of another member: it brings the update. Outlived by this.
  [[nodiscard]] std::unique_ptr<RoundWorker> remote(const protocol::ClientId& client);

  /// The others may ask from now on.
  [[nodiscard]] Result<void> start();
  /// All rounds are over here, with model `last`. Calls `done` when no other member needs anything
  /// more: those that are gone by then have what they need, or come back with the next start.
  /// kInternal when a member has come to another model.
  void finish(const protocol::Finished& last, std::function<void(Result<void>)> done);

  /// A member is gone: rounds cannot go on in this process. Called once.
  std::function<void(const Error&)> lost;

 private:
  class Shelf;
  class Shared;
  class Remote;
  void lose(const Error& why);
  void look_whether_done();

  sys::Executor& executor_;
  std::unique_ptr<transport::Listener> listener_;
  Dial dial_;
  std::size_t others_;
  PeersOptions options_;
  std::unique_ptr<Shelf> shelf_;
  std::set<Remote*> remotes_;
  bool lost_ = false;
  std::optional<protocol::Finished> last_;
  bool patient_ = true;  // with members that are not connected at the end
  std::function<void(Result<void>)> done_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace strata::client

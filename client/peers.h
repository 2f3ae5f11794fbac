#pragma once
// Rounds without a coordinator in their middle: every member of a cluster has a round machine of
// its own, which hears of all clients, and the members give each other what their own clients
// trained. So each merges the same updates by the same rules into the same bits, and the journal,
// resuming and reports of each are those of a run in one process.
//
// For every client of another member there is a connection to that member in the client's name.
// Over it go messages of protocol/messages.h: HELLO says which member asks, by which plan;
// ROUND_OPEN asks for the client's update of a round when there is one, OFFER answers; FETCH and
// CHUNK bring it; FINISHED says that this member needs nothing more.
//
// Members may also merge a part of the tensors each (a reduce-scatter and an all-gather): they ask
// for no more of an update than their part, and then for what the others have merged: CATCH_UP
// names the round, ROUND_DONE answers.
//
// Members go in step: every client takes part in every round, and a member begins a round when it
// has all updates of the one before. So nobody is more than one round behind another, also when
// all are killed and started again, and the two rounds that an outbox holds are enough. For the
// same reason a client whose training fails ends the run: a round that one member has with it and
// another without would part their models.
//
// One owner, one cluster: members believe each other. Threads: everything in the executor's.
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "client/outbox.h"
#include "client/round_worker.h"
#include "protocol/messages.h"
#include "sys/executor.h"
#include "transport/transport.h"

namespace strata::client {

struct PeersConfig {
  std::string name;                 // of this member
  std::vector<std::string> others;  // each of which asks for every client of ours
  Sha256 plan{};                    // what all of them run, and begin with
  std::function<std::string(const protocol::ClientId&)> member_of;
  /// To that member, in the client's name.
  std::function<std::unique_ptr<transport::Dialer>(const protocol::ClientId&)> dial;
  double pause = 0.2;    // seconds between attempts to reach a member
  double patience = 30;  // seconds of them, until it is gone
};

class Peers {
 public:
  Peers(sys::Executor& executor, std::unique_ptr<transport::Listener> listener, PeersConfig config);
  ~Peers();
  Peers(const Peers&) = delete;
  Peers& operator=(const Peers&) = delete;

  /// What trains for a client of ours: `worker`, whose updates are shown to the others from when
  /// they are released. The outbox keeps updates, and outlives this.
  [[nodiscard]] std::unique_ptr<RoundWorker> share(const protocol::ClientId& client,
                                                   std::unique_ptr<RoundWorker> worker,
                                                   const Outbox& outbox);
  /// What "trains" for a client of another member: it brings the update. Outlived by this.
  [[nodiscard]] std::unique_ptr<RoundWorker> remote(const protocol::ClientId& client);

  /// Each member merges a part of the tensors: what one of them needs of an update, and where this
  /// one's merged parts are kept for the others. Before anything is asked.
  using PartOf = std::function<Result<Bytes>(const std::string& member, ByteSpan update)>;
  void merge_parts(PartOf part_of, Outbox kept);
  /// Shows the others what this member has merged of a round (`own` is asked for it once), and gets
  /// what they have: null until all is here, when `again` is called.
  [[nodiscard]] Result<const std::map<std::string, Bytes>*> exchange(
      std::uint32_t round, const std::function<Bytes()>& own, std::function<void()> again);

  /// The others may ask from now on; they are answered when the executor runs.
  [[nodiscard]] Result<void> start();
  /// All rounds are over here, with model `last`. Calls `done` when every other member has said so
  /// too, or is gone. kInternal when one has come to another model.
  void finish(const protocol::Finished& last, std::function<void(Result<void>)> done);
  /// This member cannot go on: tells the others why, which ends them too; without it they try for
  /// `patience` to reach it again. Calls `done`, if given, when all know, are gone themselves, or
  /// that time is over.
  void give_up(const Error& why, std::function<void()> done = nullptr);

  /// Rounds cannot go on in this process: a member is gone, or a client's training failed. Called
  /// once.
  std::function<void(const Error&)> lost;

 private:
  class Shelf;
  class Shared;
  class Remote;
  void take_part(const std::string& member, std::uint32_t round, Bytes bytes);
  void lose(Error why);
  void end(Error why);  // in another member's words
  void gone(const std::string& member);
  void knows(const std::string& member);  // why this one gave up, or its own reason
  void look_whether_done();

  sys::Executor& executor_;
  PeersConfig config_;
  std::unique_ptr<Shelf> shelf_;  // outlives the listener
  std::unique_ptr<transport::Listener> listener_;
  std::set<Remote*> remotes_;
  PartOf part_of_;                       // empty: members get whole updates
  std::optional<Outbox> parts_;          // that this member has merged
  std::uint32_t exchanged_ = 0;          // round of `merged_`
  std::map<std::string, Bytes> merged_;  // what others have, by member
  std::function<void()> again_;
  bool lost_ = false;
  std::optional<Error> gave_up_;
  std::set<std::string> know_;
  std::function<void()> all_know_;
  sys::TimerId until_all_know_ = 0;
  std::optional<protocol::Finished> last_;
  std::map<std::string, protocol::Finished> finished_;  // by member
  std::set<std::string> gone_;                          // after the end here
  std::function<void(Result<void>)> done_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace strata::client

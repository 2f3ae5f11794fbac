#pragma once
// A coordinator at work: it drives the round machine with what clients send over a transport, keeps
// every promise in the journal before it is made, and folds closed rounds into the model. Stopped
// and started again in the same folder, however suddenly, it ends at the same bytes.
//
//   folder/  lock  journal/000001.log  updates/open (of the round at hand; 0001 ... when they are
//   kept)  results/0001 ...  snapshot-0007
//
// Order for an update: region flushed, UPDATE_ACCEPTED flushed, then acknowledged. For a round:
// ROUND_CLOSED flushed, aggregated, result flushed, ROUND_COMMITTED flushed, then announced. Where
// the core's sum is private, the charge is flushed before it is noised, and a result that is there
// is the round's: no sum gets noise twice for one charge.
// Threads: everything in the executor's.
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "coordinator/coordinator.h"
#include "coordinator/round_machine.h"
#include "coordinator/updates/round_file.h"
#include "journal/journal.h"
#include "protocol/messages.h"
#include "sys/clock.h"
#include "sys/disk.h"
#include "sys/executor.h"
#include "sys/random.h"
#include "transport/transport.h"

namespace strata::coordinator {

struct ServerConfig {
  MachineConfig machine;
  std::filesystem::path folder;  // the state of the run, for its owner only
  sys::Durability durability = sys::Durability::kMachine;
  protocol::RunId run{};  // of a run that is begun now
  Sha256 plan{};          // hash of what the parties agree on
  /// The plan as its client gets it (JSON).
  std::function<std::string(const protocol::ClientId&)> plan_of;
  /// Shapes that each client's updates have; of several terms, the first or more of them.
  std::map<protocol::ClientId, std::shared_ptr<const Outline>> expected;
  std::string encoding = "f32";
  double deadline_seconds = 0.0;  // of a round; 0: it waits for every client that was drawn
  sys::Stream shared{0};          // that the plan's seed gives all parties: seeded factors
  bool keep_updates = false;      // of rounds that are over, for who wants to recompute them
  /// Whether a round with all its updates may be closed; if not, `again` is called later. Empty: it
  /// may.
  std::function<bool(std::uint32_t round, std::function<void()> again)> may_close;
  /// Completes what the round comes to by the tensors that others have merged, and leaves out those
  /// that are theirs. False: they have not come yet, and `again` is called when some have. Begun as
  /// soon as the round has all its updates: what travels here need not wait for may_close. Empty:
  /// everything is here.
  std::function<Result<bool>(std::uint32_t round, adapter::Packet& packet,
                             std::function<void()> again)>
      complete;
  /// Results up to so many bytes go with their message; what is fetched comes in such pieces.
  std::uint64_t inline_bytes = protocol::kInlineBytes;
  std::uint64_t chunk_bytes = wire::kChunkBytes;
};

/// What others want to know of a run, and what they do about it.
class ServerObserver {
 public:
  virtual ~ServerObserver() = default;
  virtual void joined(const protocol::ClientId&, const transport::Peer&) {}
  virtual void left(const protocol::ClientId&, const Error&) {}
  /// Something of no consequence for the run, worth a line.
  virtual void noticed(const std::string&) {}
  virtual void opened(const RoundOpened&) {}
  virtual void accepted(const UpdateAccepted&) {}
  virtual void left_out(const ClientOut&) {}
  /// A round was folded into the coordinator's model, its result is on the disk, and it is about to
  /// be committed. An error ends the run.
  virtual Result<void> closed(const RoundReport&, const Coordinator&, double /*seconds*/) {
    return {};
  }
  /// Not told to the clients yet. An error ends the run; the round stays committed.
  virtual Result<void> committed(const RoundCommitted&) { return {}; }
  /// A record of the journal, read when the run goes on or written to mend it then.
  virtual void replayed(const RoundRecord&) {}
  /// A round that was committed before this process began.
  virtual Result<void> resumed(const protocol::RoundChange&, const RoundCommitted&,
                               const Coordinator&) {
    return {};
  }
  /// All rounds are over and it is in the journal; clients may still come to hear of it. Called
  /// once by each process that gets there. An error ends the run.
  virtual Result<void> over() { return {}; }
  /// The run is over, or cannot go on in this process. Called once.
  virtual void done(const Result<void>&) {}
};

/// What clients showed of their ledgers, over runs.
class LedgerMemory {
 public:
  virtual ~LedgerMemory() = default;
  /// The farthest mark that was kept of this client's ledger; zeros: none.
  [[nodiscard]] virtual protocol::LedgerMark of(const protocol::ClientId& client,
                                                const Sha256& ledger) const = 0;
  /// Whether ledgers of this client were seen, but not this one.
  [[nodiscard]] virtual bool knows_another(const protocol::ClientId& client,
                                           const Sha256& ledger) const = 0;
  /// Durable when it returns; a mark that is not farther than what is kept changes nothing.
  [[nodiscard]] virtual Result<void> keep(const protocol::ClientId& client,
                                          const protocol::LedgerMark& mark) = 0;
};

struct ServerTools {
  sys::Executor& executor;
  const sys::Clock& clock;
  sys::Disk& disk;
  ServerObserver& observer;
  LedgerMemory* ledgers = nullptr;  // null: none is remembered
};

class Server final : public transport::Handler {
 public:
  /// Begins a run in `config.folder`, or goes on with the one that is there: reads the journal,
  /// folds what was committed into `core`. kLocked when another process works there; kConfig when
  /// it is a run of another plan or base; kDamaged, kUnsupported.
  [[nodiscard]] static Result<std::unique_ptr<Server>> open(ServerConfig config, Coordinator core,
                                                            ServerTools tools);
  ~Server() override;
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// Goes to work; connections may come from now on.
  void start();
  /// Stops in good order: what was promised is on the disk; `done` hears kInterrupted, unless all
  /// rounds were over.
  void interrupt(const std::string& why);

  [[nodiscard]] const RoundMachine& machine() const { return machine_; }
  [[nodiscard]] Coordinator& core() { return core_; }
  [[nodiscard]] std::size_t connected() const { return by_client_.size(); }

  void on_open(const std::shared_ptr<transport::Connection>& connection) override;
  void on_frame(transport::Connection& connection, wire::Frame frame) override;
  void on_end(transport::Connection& connection, const Error& why) override;

 private:
  struct Upload {
    protocol::Offer offer;
    std::uint64_t region = 0;
    std::uint64_t asked = 0;     // bytes
    std::uint64_t received = 0;  // bytes, from the beginning
    Hasher hasher;
  };
  struct Session {
    std::shared_ptr<transport::Connection> connection;
    std::uint64_t number = 0;     // in the order in which they were opened
    protocol::ClientId client;    // once welcomed
    Sha256 plan{};                // that it came with; zeros: none of its own
    protocol::LedgerMark ledger;  // as it said when it came
    bool ready = false;
    std::unique_ptr<Upload> upload;
  };
  // An update that is whole and checked, and waits for the next flush.
  struct Waiting {
    UpdateAccepted record;
    SharedUpdate update;
  };
  struct Stored {
    std::filesystem::path path;
    std::uint64_t size = 0;
  };

  Server(ServerConfig config, Coordinator core, ServerTools tools);

  // Recovery (server_recovery.cpp).
  [[nodiscard]] Result<void> recover();
  [[nodiscard]] Result<void> check_run() const;
  [[nodiscard]] Result<void> refold();
  [[nodiscard]] Result<void> reopen_updates();

  // Messages (server_messages.cpp).
  void handle(Session& session, const protocol::Hello& m);
  void handle(Session& session, const protocol::Ready& m);
  void handle(Session& session, protocol::Offer& m);
  void handle(Session& session, const protocol::Failed& m);
  void handle(Session& session, const protocol::CatchUp& m);
  void handle(Session& session, const protocol::Fetch& m);
  void handle(Session& session, const protocol::Chunk& m);
  void handle(Session& session, const protocol::Problem& m);
  template <class Other>
  void handle(Session& session, const Other& m);
  [[nodiscard]] const Waiting* waiting_of(const protocol::ClientId& client) const;
  /// What keeps the model after `head` from being a state of the coordinator's; empty: nothing.
  [[nodiscard]] std::optional<Error> other_model(const protocol::Head& head) const;
  void refuse_conflict(Session& session, const protocol::Offer& offer, const Sha256& first);
  void begin_upload(Session& session, protocol::Offer& offer);
  /// Of a round that was closed: their places are in its file.
  void give_up_uploads();
  void ask_for_more(Session& session);
  void take_bytes(Session& session, ByteSpan bytes);
  /// `whole`: the update, if it came in one piece.
  void finish_upload(Session& session, ByteSpan whole);
  [[nodiscard]] Result<void> check_uploaded(const Session& session, ByteSpan whole,
                                            SharedUpdate& update);
  void acknowledge(Session& session, const protocol::Offer& offer, protocol::Outcome outcome,
                   std::string reason = {});
  void reject(Session& session, const protocol::Offer& offer, const std::string& reason);
  void refuse(Session& session, const Error& why, bool retry = false);
  void drop(transport::Connection& connection);
  void each_session(const std::function<void(Session&)>& visit);
  [[nodiscard]] Session* session_of(const protocol::ClientId& client);
  void send(Session& session, const protocol::Message& message);
  void welcome(Session& session);
  void remember(const Session& session, const protocol::LedgerMark& ledger);
  void tell_round(Session& session);
  [[nodiscard]] std::uint64_t bytes_since(std::uint32_t round) const;
  [[nodiscard]] Result<void> refresh_snapshot();
  [[nodiscard]] Result<protocol::History> history_from(const protocol::Head& head);
  [[nodiscard]] Result<protocol::Object> object_of(const RoundCommitted& round) const;

  // Rounds (server.cpp).
  void flush_soon();
  void flush();
  void advance_soon();
  void advance();
  bool advance_once();  // whether something changed
  bool open_round();
  bool close_round();
  /// Whether the updates of `contributors` are combined, others' tensors included.
  [[nodiscard]] Result<bool> combine(const std::vector<protocol::ClientId>& contributors);
  bool fold_round();
  /// Nothing when it waits for others' tensors.
  [[nodiscard]] Result<std::optional<RoundReport>> fold_updates();
  [[nodiscard]] std::function<void()> advance_later();
  [[nodiscard]] Result<RoundReport> take_up_result();
  [[nodiscard]] Result<void> keep_result(const RoundCommitted& round, ByteSpan bytes);
  bool finish_run();
  void linger();
  void announce(const RoundCommitted& round);
  void arm_deadline();
  /// Journals, flushes and applies. False: to be tried again later, or the run has ended.
  bool decide(const RoundRecord& record);
  void retry_later(const Error& why);
  [[nodiscard]] bool journal_leaving();
  void leave_out(const protocol::ClientId& client, const std::string& reason, bool rejected);
  void end(Result<void> how);
  [[nodiscard]] std::filesystem::path updates_path(std::uint32_t round) const;
  [[nodiscard]] std::unique_ptr<RoundFile> round_file(std::uint32_t round) const;
  [[nodiscard]] std::filesystem::path result_path(std::uint32_t round) const;
  [[nodiscard]] bool quorum_connected() const;

  ServerConfig config_;
  ServerTools tools_;
  Coordinator core_;
  RoundMachine machine_;
  std::unique_ptr<sys::FileLock> lock_;
  std::unique_ptr<journal::Journal> journal_;
  std::unique_ptr<RoundFile> updates_;
  std::uint64_t opened_ = 0;                             // connections
  std::map<protocol::ClientId, std::uint64_t> regions_;  // of updates_, for what is uploaded now
  // Uploads whose connection ended, to be gone on with while their round is open.
  std::map<protocol::ClientId, std::unique_ptr<Upload>> partial_;
  std::map<protocol::ClientId, SharedUpdate> kept_;  // of accepted()
  std::vector<Waiting> waiting_;
  struct Leaving {
    std::string reason;
    bool rejected = false;  // what it sent is not fit for use
  };
  std::map<protocol::ClientId, Leaving> leaving_;  // left out, not journaled yet
  std::map<Sha256, Stored> objects_;               // that clients may fetch
  protocol::Object snapshot_;
  std::uint32_t snapshot_round_ = 0;  // 0: none
  std::map<transport::Connection*, Session> sessions_;
  std::map<protocol::ClientId, transport::Connection*> by_client_;
  bool begun_ = false;
  bool ended_ = false;
  bool flush_posted_ = false;
  bool advance_posted_ = false;
  bool met_quorum_ = false;  // since this process began
  bool deadline_passed_ = false;
  std::optional<Coordinator::Combined> combined_;  // of the round at hand, to be folded
  std::vector<protocol::ClientId> combined_of_;    // whose updates that are
  bool complete_ = false;                          // with what others have merged
  std::unique_ptr<RoundReport> folded_;            // closed and folded, not committed
  double fold_seconds_ = 0.0;                      // that it took
  bool told_ = false;                              // observer_.closed() has heard of it
  double deadline_at_ = 0.0;
  sys::TimerId deadline_ = 0;
  sys::TimerId retry_ = 0;
  sys::TimerId linger_ = 0;
  bool lingered_ = false;
  bool told_over_ = false;
  bool met_anybody_ = false;  // a client was ready since this process began
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // posted tasks ask it
};

}  // namespace strata::coordinator

#pragma once
// One client's conversation with the coordinator, over whatever transport, through all rounds: it
// connects and connects again, trains when asked, keeps its update until that is acknowledged, and
// follows the model. A deterministic machine fed by what happens; see docs/formats/wire.md.
// Threads: everything in the executor's.
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "client/base_model.h"
#include "client/outbox.h"
#include "client/round_worker.h"
#include "sys/executor.h"
#include "sys/random.h"
#include "transport/transport.h"

namespace strata::client {

struct SessionConfig {
  protocol::ClientId id;
  std::string program;  // name and version, for people
  Sha256 plan{};        // hash of the plan that this side holds; zeros: none
  /// Whether the coordinator's plan (JSON) is one to take part in: kConfig naming the first
  /// difference otherwise. Called before READY is said.
  std::function<Result<void>(const std::string&)> check_plan;
  bool keep_updates =
      true;  // in the outbox; false: the coordinator lives and dies with this process
  bool discreet =
      false;  // why a round failed depends on the records: the coordinator hears no more
  std::uint64_t seed = 0;    // of the pauses between attempts
  double first_pause = 1.0;  // seconds; doubles up to
  double longest_pause = 60.0;
  /// Attempts without a conversation before it gives up; 0: never.
  int attempts_max = 0;
  /// Updates up to so many bytes go with their offer; what is fetched comes in such pieces.
  std::uint64_t inline_bytes = protocol::kInlineBytes;
  std::uint64_t chunk_bytes = wire::kChunkBytes;
};

/// What others want to know of a session.
class SessionObserver {
 public:
  virtual ~SessionObserver() = default;
  virtual void connected(const transport::Peer&, const protocol::Welcome&) {}
  /// `pause`: seconds to the next attempt.
  virtual void disconnected(const Error&, double /*pause*/) {}
  virtual void training(std::uint32_t /*round*/) {}
  virtual void trained(std::uint32_t /*round*/, const protocol::Training&,
                       std::uint64_t /*bytes*/) {}
  virtual void failed(std::uint32_t /*round*/, const Error&) {}
  virtual void acknowledged(const protocol::Ack&) {}
  virtual void followed(const protocol::Head&, std::uint64_t /*bytes*/) {}
  /// The run is over and the model is final, or this client takes no further part. Called once.
  virtual void done(const Result<protocol::Finished>&) {}
};

struct SessionTools {
  sys::Executor& executor;
  sys::Disk& disk;
  transport::Dialer& dialer;
  BaseModel& base;
  Outbox& outbox;
  RoundWorker& worker;
  SessionObserver& observer;
};

class Session final : public transport::Handler {
 public:
  Session(SessionConfig config, SessionTools tools);
  ~Session() override;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// Restores the worker from the outbox and connects.
  void start();
  /// Stops in good order: says so to the coordinator; `done` hears kInterrupted.
  void interrupt(const std::string& why);

  void on_open(const std::shared_ptr<transport::Connection>& connection) override;
  void on_frame(transport::Connection& connection, wire::Frame frame) override;
  void on_end(transport::Connection& connection, const Error& why) override;

 private:
  // An object on its way from the coordinator.
  struct Download {
    protocol::Object object;
    std::uint64_t asked = 0;
    std::uint64_t received = 0;
    Hasher hasher;
    std::unique_ptr<sys::RandomFile> file;
    std::function<void(const std::filesystem::path&)> then;
  };

  void dial();
  void try_again(const Error& why);
  void lose_connection();
  void end(Result<protocol::Finished> how);
  void send(const protocol::Message& message);
  /// Tells the coordinator what it did wrong and tries again later.
  void complain(const Error& why);

  void handle(const protocol::Welcome& m);
  void handle(const protocol::RoundOpen& m);
  void handle(const protocol::Ack& m);
  void handle(protocol::RoundDone& m);
  void handle(protocol::History& m);
  void handle(const protocol::Fetch& m);
  void handle(const protocol::Chunk& m);
  void handle(const protocol::Finished& m);
  void handle(const protocol::Problem& m);
  template <class Other>
  void handle(const Other& m);

  /// Does what is to be done next: catch up, train, offer, finish.
  void go_on();
  void train();
  void trained(std::uint32_t round, const Sha256& base, Result<RoundDone> done);
  void offer();
  /// The last update may leave now.
  [[nodiscard]] bool release_last();
  /// Nothing when it ended because of that.
  [[nodiscard]] std::optional<protocol::LedgerMark> mark_now();
  bool forget_last();
  void finish();
  void follow(const protocol::Head& head, protocol::Object object);
  void fold(const protocol::Head& head, ByteSpan bytes);
  void walk_history();
  void fetch(protocol::Object object, std::function<void(const std::filesystem::path&)> then);
  void ask_for_more();
  [[nodiscard]] bool has_update_of(std::uint32_t round) const;

  SessionConfig config_;
  SessionTools tools_;
  std::shared_ptr<transport::Connection> connection_;
  bool welcomed_ = false;
  bool ended_ = false;
  protocol::RunId run_{};
  int attempts_ = 0;  // since the last conversation
  sys::TimerId timer_ = 0;
  sys::Stream jitter_;
  std::optional<protocol::RoundOpen> open_;  // asked for, and not answered yet
  std::optional<protocol::Finished> finished_;
  std::uint32_t training_ = 0;      // the round that is trained for; 0: none
  std::uint32_t offered_ = 0;       // the round whose update was offered on this connection
  std::uint64_t conversation_ = 0;  // counts connections: callbacks of an older one do nothing
  int complaints_ = 0;
  std::optional<Error> spent_;  // the data owner's budget: no reason to call again
  bool busy_following_ = false;
  bool fetched_ = false;  // something lies in the outbox's place for it
  std::optional<protocol::History> history_;
  std::unique_ptr<Download> download_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // callbacks ask it
};

}  // namespace strata::client

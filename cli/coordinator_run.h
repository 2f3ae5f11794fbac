#pragma once
// What a coordinator does for its user while rounds go by, whatever transport the clients use: the
// run folder, the events, the evaluation of the model, the closing summary.
#include <map>
#include <set>
#include <string>

#include "cli/federation.h"
#include "cli/run_folder.h"
#include "coordinator/server.h"

namespace strata::cli {

class CoordinatorRun final : public coordinator::ServerObserver {
 public:
  /// Borrows everything. `held_out` may be empty: nothing is evaluated.
  CoordinatorRun(const Job& job, const TextSide& text, std::span<const text::Example> held_out,
                 std::span<const text::Record> held_out_records, RunFolder& folder,
                 RunTools& tools);
  /// Of the clients, in order of their names, before anything else.
  void set_clients(std::vector<ClientSummary> clients) { summary_.clients = std::move(clients); }
  /// Called when the run is over or cannot go on.
  std::function<void(Result<void>)> on_done;
  std::function<Result<void>()> on_over;  // may be empty
  /// Bytes that idle clients of this process keep, for the events.
  std::function<std::size_t()> idle_bytes;
  bool tell_peers = true;  // events of clients that come and go

  /// Loss of a model with what stands beside it, on the held-out records; an event and a line of
  /// the summary.
  [[nodiscard]] Result<void> evaluate(std::uint32_t round, const model::Model& model,
                                      const adapter::AdapterSet* beside);
  /// The averaged factors as adapters beside the model; null when there are none.
  [[nodiscard]] static Result<std::unique_ptr<adapter::AdapterSet>> beside(
      const model::Model& model, const std::map<std::string, adapter::Factors>& initial,
      const protocol::MeanFactors& mean);
  [[nodiscard]] evaluation::EvaluationOptions evaluation_options() const;
  [[nodiscard]] RunSummary& summary() { return summary_; }
  void opened(const coordinator::RoundOpened& r) override;
  void accepted(const coordinator::UpdateAccepted& r) override;
  void left_out(const coordinator::ClientOut& r) override;
  Result<void> closed(const coordinator::RoundReport& report, const coordinator::Coordinator& core,
                      double seconds) override;
  Result<void> committed(const coordinator::RoundCommitted& r) override;
  void replayed(const coordinator::RoundRecord& record) override;
  Result<void> resumed(const protocol::RoundChange& change, const coordinator::RoundCommitted& r,
                       const coordinator::Coordinator& core) override;
  void joined(const protocol::ClientId& client, const transport::Peer& peer) override;
  void left(const protocol::ClientId& client, const Error& why) override;
  void noticed(const std::string& what) override;
  Result<void> over() override { return on_over ? on_over() : Result<void>{}; }
  void done(const Result<void>& how) override;

 private:
  void use(const coordinator::UpdateAccepted& update);
  void refuse(const coordinator::ClientOut& out);
  void tell_descent(std::uint32_t round, const coordinator::MergeDescent& descent);
  void tell_aggregate(const coordinator::RoundReport& report, double seconds);
  [[nodiscard]] ClientSummary& summary_of(const std::string& client);
  [[nodiscard]] int workers() const;

  const Job& job_;
  const TextSide& text_;
  std::span<const text::Example> held_out_;
  std::span<const text::Record> held_out_records_;
  RunFolder& folder_;
  RunTools& tools_;
  RunSummary summary_;
  std::map<std::string, coordinator::UpdateAccepted> accepted_;  // of the open round
  const coordinator::Coordinator* core_ = nullptr;
  double round_began_ = 0.0;
  std::set<protocol::ClientId> selected_, out_;  // for it; and left out
  std::uint32_t closed_before_ = 0;  // by an earlier process, which may have told of it already
};

}  // namespace strata::cli

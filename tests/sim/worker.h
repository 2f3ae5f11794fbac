#pragma once
// Training that takes virtual time and no arithmetic: the update is drawn from the client, the
// round, the model and the client's own state, so that whoever restores the wrong state, or trains
// on the wrong model, sends other bytes.
#include <map>
#include <string>
#include <vector>

#include "client/budget.h"
#include "client/round_worker.h"
#include "protocol/update_codec.h"
#include "sim/executor.h"

namespace strata::sim {

struct LayerShape {
  std::string name;
  std::size_t d_out = 0;
  std::size_t d_in = 0;
};

/// Those of tiny_model() that simulated clients change.
inline const std::vector<LayerShape>& layers() {
  static const std::vector<LayerShape> kAll{{"model.layers.0.mlp.down_proj.weight", 8, 16},
                                            {"model.layers.0.self_attn.q_proj.weight", 8, 8}};
  return kAll;
}

/// How a client's update may be wrong.
enum class Spoilt { kNo, kNan, kRank, kTensor, kFails };

class Worker final : public client::RoundWorker {
 public:
  struct Setup {
    std::string client;
    std::size_t rank = 1;
    std::vector<LayerShape> layers;
    std::uint64_t seed = 0;
    double longest = 3.0;                    // seconds of a round
    std::map<std::uint32_t, Spoilt> spoilt;  // by round
    /// Every honest update, by hash: what an independent aggregation is made from.
    std::map<Sha256, protocol::Update>* made = nullptr;
    /// Of a private client: pays for each training, which draws fresh noise, counted here.
    client::Budget* budget = nullptr;
    std::uint64_t* noise = nullptr;
    /// Of a client that has two updates for each round: the bytes of the other one, by hash.
    std::map<Sha256, Bytes>* others = nullptr;
  };
  Worker(ProcessExecutor& executor, Setup setup);

  void train(const client::RoundStart& start,
             std::function<void(Result<client::RoundDone>)> done) override;
  void abort() override;
  Result<void> release(const protocol::RunId& run, std::uint32_t round,
                       const Sha256& update) override;
  Result<protocol::LedgerMark> mark() override;
  Result<void> check_remembered(const protocol::LedgerMark& seen) override;
  Result<void> restore(ByteSpan state) override;

 private:
  [[nodiscard]] protocol::Update draw_update(const client::RoundStart& start,
                                             std::uint64_t seed) const;
  [[nodiscard]] client::RoundDone make(const client::RoundStart& start);
  ProcessExecutor& executor_;
  Setup setup_;
  std::uint64_t state_ = 0;
  sys::TimerId timer_ = 0;
  std::function<void(Result<client::RoundDone>)> done_;
};

}  // namespace strata::sim

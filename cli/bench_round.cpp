#include "cli/bench_round.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "client/session.h"
#include "coordinator/server.h"
#include "protocol/update_codec.h"
#include "sys/random.h"

namespace strata::cli {
namespace {

constexpr std::size_t kHidden = 256, kIntermediate = 768;
constexpr std::size_t kRankMax = 200;
constexpr std::uint64_t kSeed = 1;
constexpr int kWarmup = 2;

// One rank on one down projection is 4096 bytes of update.
struct Shape {
  std::size_t layers = 1;
  std::size_t rank = 1;
};

Shape shape_of(std::size_t update_bytes) {
  const std::size_t ranks =
      std::max<std::size_t>(1, update_bytes / ((kHidden + kIntermediate) * sizeof(float)));
  Shape out;
  out.layers = (ranks + kRankMax - 1) / kRankMax;
  out.rank = ranks / out.layers;
  return out;
}

std::string tensor_of(std::size_t layer) {
  return fmt::format("model.layers.{}.mlp.down_proj.weight", layer);
}

Result<model::Model> base_model(const Shape& shape) {
  const std::string config = fmt::format(
      R"({{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": {},
  "intermediate_size": {}, "num_hidden_layers": {}, "num_attention_heads": 4,
  "num_key_value_heads": 1, "vocab_size": 16, "max_position_embeddings": 32, "rms_norm_eps": 1e-5,
  "rope_theta": 10000.0, "tie_word_embeddings": true, "hidden_act": "silu",
  "initializer_range": 0.1}})",
      kHidden, kIntermediate, shape.layers);
  return model::Model::create(config, "bench", tensor::DType::kF32, sys::Stream(kSeed));
}

// Trains in no time; what it sends is drawn once.
class Idle final : public client::RoundWorker {
 public:
  Idle(std::string client, const Shape& shape, sys::Executor& executor)
      : executor_(executor), update_{.client = std::move(client)} {
    sys::Stream draw = sys::Stream(kSeed).at({.client = sys::name_hash(update_.client)});
    for (std::size_t layer = 0; layer < shape.layers; ++layer) {
      tensor::Matrix b(kHidden, shape.rank), a(shape.rank, kIntermediate);
      for (float& v : b.values()) v = static_cast<float>(draw.uniform(-1e-3, 1e-3));
      for (float& v : a.values()) v = static_cast<float>(draw.uniform(-1e-3, 1e-3));
      update_.delta[tensor_of(layer)] = {
          kHidden, kIntermediate, {adapter::LowRank{std::move(b), std::move(a), 0, 0}}};
    }
  }
  void train(const client::RoundStart& start,
             std::function<void(Result<client::RoundDone>)> done) override {
    update_.round = start.round;
    update_.base = start.base;
    executor_.post([this, done = std::move(done)] {
      client::RoundDone out;
      out.update = protocol::encode(update_, protocol::Encoding::kF32).bytes;
      done(std::move(out));
    });
  }
  void abort() override {}
  Result<void> restore(ByteSpan) override { return {}; }

 private:
  sys::Executor& executor_;
  protocol::Update update_;
};

double median(std::vector<double> values) {
  if (values.empty()) return 0.0;
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

class Timing final : public coordinator::ServerObserver {
 public:
  Timing(sys::Loop& loop, const sys::Clock& clock) : loop_(loop), clock_(clock) {}
  void opened(const coordinator::RoundOpened& round) override {
    if (round.round > kWarmup + 1) rounds.push_back(clock_.seconds() - opened_at_);
    opened_at_ = clock_.seconds();
  }
  Result<void> closed(const coordinator::RoundReport& report, const coordinator::Coordinator&,
                      double seconds) override {
    if (report.round > kWarmup) aggregations.push_back(seconds);
    return {};
  }
  void accepted(const coordinator::UpdateAccepted& update) override { bytes = update.size; }
  void left_out(const coordinator::ClientOut& out) override {
    ended = fail({.code = ErrorCode::kInternal, .what = out.client + ": " + out.reason});
    loop_.stop();
  }
  void done(const Result<void>& how) override {
    if (!ended) ended = how;
    loop_.stop();
  }

  std::vector<double> rounds, aggregations;
  std::size_t bytes = 0;
  std::optional<Result<void>> ended;

 private:
  sys::Loop& loop_;
  const sys::Clock& clock_;
  double opened_at_ = 0.0;
};

class Clients {
 public:
  Clients(const BenchRoundOptions& options, const Shape& shape, sys::Loop& loop, sys::Disk& disk)
      : options_(options), shape_(shape), loop_(loop), disk_(disk) {}

  Result<void> start(const std::vector<std::string>& names, const MakeDialer& dialer,
                     bool stop_loop) {
    auto model = base_model(shape_);
    if (!model) return fail(std::move(model).error());
    base_ = client::own_base(std::move(*model), disk_, 1);
    left_ = names.size();
    for (const auto& name : names) {
      auto one = std::make_unique<One>();
      one->ended = [this, stop_loop](Result<void> how) {
        if (!how && ended) ended = std::move(how);
        if ((--left_ == 0 || !ended) && stop_loop) loop_.stop();
      };
      auto made = dialer(name);
      if (!made) return fail(std::move(made).error());
      one->dialer = std::move(*made);
      auto outbox =
          client::Outbox::open(disk_, options_.state / "clients" / name, options_.durability);
      if (!outbox) return fail(std::move(outbox).error());
      one->outbox.emplace(std::move(*outbox));
      one->worker = std::make_unique<Idle>(name, shape_, loop_);
      one->session = std::make_unique<client::Session>(
          client::SessionConfig{
              .id = name, .program = "strata bench", .keep_updates = options_.outbox},
          client::SessionTools{loop_, disk_, *one->dialer, *base_, *one->outbox, *one->worker,
                               *one});
      all_.push_back(std::move(one));
    }
    for (auto& one : all_) one->session->start();
    return {};
  }

  Result<void> ended;

 private:
  struct One final : client::SessionObserver {
    std::unique_ptr<transport::Dialer> dialer;
    std::optional<client::Outbox> outbox;
    std::unique_ptr<client::RoundWorker> worker;
    std::unique_ptr<client::Session> session;
    std::function<void(Result<void>)> ended;
    void done(const Result<protocol::Finished>& how) override {
      ended(how ? Result<void>{} : fail(how.error()));
    }
  };
  const BenchRoundOptions& options_;
  Shape shape_;
  sys::Loop& loop_;
  sys::Disk& disk_;
  std::unique_ptr<client::BaseModel> base_;
  std::vector<std::unique_ptr<One>> all_;
  std::size_t left_ = 0;
};

}  // namespace

std::vector<std::string> bench_clients(int count) {
  std::vector<std::string> out;
  out.reserve(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) out.push_back(fmt::format("client-{:04}", i));
  return out;
}

Result<BenchRoundReport> bench_rounds(const BenchRoundOptions& options, sys::Loop& loop,
                                      transport::Listener& listener, const sys::Clock& clock,
                                      sys::Disk& disk, const MakeDialer& also_here) {
  const Shape shape = shape_of(options.update_bytes);
  const auto names = bench_clients(options.clients);
  auto base = base_model(shape);
  if (!base) return fail(std::move(base).error());
  const auto rounds = static_cast<std::uint32_t>(options.rounds + kWarmup + 1);
  auto core = coordinator::Coordinator::make({.method = options.method,
                                              .restart = "fresh",
                                              .rounds = options.rounds + kWarmup + 1,
                                              .measure = false},
                                             std::move(*base));
  if (!core) return fail(std::move(core).error());
  auto outline = std::make_shared<coordinator::Outline>();
  for (std::size_t layer = 0; layer < shape.layers; ++layer)
    outline->emplace(tensor_of(layer),
                     protocol::TensorOutline{kHidden, kIntermediate, {shape.rank}});
  coordinator::ServerConfig config{
      .machine = {.clients = names,
                  .rounds = rounds,
                  .quorum = static_cast<std::uint32_t>(options.clients)},
      .folder = options.state / "coordinator",
      .durability = options.durability,
      .plan_of = [](const protocol::ClientId&) { return std::string("{}"); }};
  config.run[0] = std::byte{1};
  for (const auto& name : names) config.expected[name] = outline;
  Timing timing(loop, clock);
  auto server =
      coordinator::Server::open(std::move(config), std::move(*core), {loop, clock, disk, timing});
  if (!server) return fail(std::move(server).error());
  if (auto listening = listener.listen(**server); !listening)
    return fail(std::move(listening).error());
  (*server)->start();
  Clients here(options, shape, loop, disk);
  if (also_here) {
    if (auto started = here.start(names, also_here, false); !started)
      return fail(std::move(started).error());
  }
  loop.run();
  if (timing.ended && !*timing.ended) return fail(timing.ended->error());
  if (!here.ended) return fail(here.ended.error());
  return BenchRoundReport{.round_seconds = median(timing.rounds),
                          .aggregate_seconds = median(timing.aggregations),
                          .update_bytes = timing.bytes};
}

Result<void> bench_round_clients(const BenchRoundOptions& options,
                                 const std::vector<std::string>& clients, const MakeDialer& dialer,
                                 sys::Loop& loop, sys::Disk& disk) {
  Clients all(options, shape_of(options.update_bytes), loop, disk);
  if (auto started = all.start(clients, dialer, true); !started) return started;
  loop.run();
  return all.ended;
}

}  // namespace strata::cli

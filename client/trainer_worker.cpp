#include "client/trainer_worker.h"

#include <atomic>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <utility>

namespace strata::client {

struct TrainingPool::State {
  std::mutex mutex;
  std::condition_variable news;
  std::deque<std::function<void(model::Workspace&)>> queue;
  bool stopped = false;
};

TrainingPool::TrainingPool(int workers, int threads) : state_(std::make_shared<State>()) {
  for (int i = 0; i < workers; ++i) {
    threads_.emplace_back([state = state_, threads] {
      model::Workspace workspace(threads);
      while (true) {
        std::unique_lock lock(state->mutex);
        state->news.wait(lock, [&] { return state->stopped || !state->queue.empty(); });
        if (state->stopped) return;
        const auto work = std::move(state->queue.front());
        state->queue.pop_front();
        lock.unlock();
        work(workspace);
      }
    });
  }
}

TrainingPool::~TrainingPool() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopped = true;
  }
  state_->news.notify_all();
}

void TrainingPool::submit(std::function<void(model::Workspace&)> work) {
  {
    const std::lock_guard lock(state_->mutex);
    state_->queue.push_back(std::move(work));
  }
  state_->news.notify_one();
}

namespace {

class TrainerWorker final : public RoundWorker {
 public:
  TrainerWorker(LocalTrainer& trainer, TrainerTools tools) : trainer_(trainer), tools_(tools) {}
  // Whoever destroys it has stopped the pool, or waits for done().
  ~TrainerWorker() override { *aborted_ = true; }
  TrainerWorker(const TrainerWorker&) = delete;
  TrainerWorker& operator=(const TrainerWorker&) = delete;

  void train(const RoundStart& start, std::function<void(Result<RoundDone>)> done) override {
    aborted_ = std::make_shared<std::atomic<bool>>(false);
    auto answer = std::make_shared<std::function<void(Result<RoundDone>)>>(std::move(done));
    tools_.pool.submit([this, start, answer, aborted = aborted_](model::Workspace& workspace) {
      auto result = std::make_shared<Result<RoundDone>>(work(start, workspace, *aborted));
      tools_.executor.post([answer, result] { (*answer)(std::move(*result)); });
    });
  }

  void abort() override { *aborted_ = true; }

  Result<void> release(const protocol::RunId& run, std::uint32_t round,
                       const Sha256& update) override {
    return tools_.budget == nullptr ? Result<void>{} : tools_.budget->release(run, round, update);
  }

  Result<protocol::LedgerMark> mark() override {
    return tools_.budget == nullptr ? protocol::LedgerMark{} : tools_.budget->mark();
  }
  Result<void> check_remembered(const protocol::LedgerMark& seen) override {
    return tools_.budget == nullptr ? Result<void>{} : tools_.budget->check_remembered(seen);
  }

  Result<void> restore(ByteSpan state) override {
    if (!keeps_untold() || state.empty()) {
      untold_.clear();
      return trainer_.load(state, tools_.base.model());
    }
    ByteReader in(state);
    const auto trained = in.block();
    protocol::Untold untold;
    if (!trained || !read(in, untold)) {
      return fail({.code = ErrorCode::kDamaged,
                   .what = "is no state of this client",
                   .where = "client " + trainer_.name(),
                   .rule = "it holds what the encoding has not told yet"});
    }
    auto loaded = trainer_.load(*trained, tools_.base.model());
    if (loaded) untold_ = std::move(untold);
    return loaded;
  }

 private:
  // In a thread of the pool, while the session holds a lease on the base.
  Result<RoundDone> work(const RoundStart& start, model::Workspace& workspace,
                         const std::atomic<bool>& aborted) {
    const auto interrupted = [] {
      return fail({.code = ErrorCode::kInterrupted, .what = "the round is over"});
    };
    if (aborted) return interrupted();
    if (tools_.budget != nullptr) {
      if (auto charged = tools_.budget->reserve(start.run, start.round); !charged)
        return fail(std::move(charged).error());
    }
    const model::Model& base = tools_.base.model();
    // Kept small by a fresh start: what goes wrong in between is undone.
    const Bytes before = trainer_.save();
    auto done = train_round(start, base, workspace, aborted);
    if (done) return done;
    if (auto back = trainer_.load(before, base); !back) return fail(std::move(back).error());
    if (aborted) return interrupted();
    return done;
  }

  Result<RoundDone> train_round(const RoundStart& start, const model::Model& base,
                                model::Workspace& workspace, const std::atomic<bool>& aborted) {
    if (auto begun = trainer_.begin(start.restart, start.round, start.used_before,
                                    tools_.base.mean_factors(), base);
        !begun)
      return fail(std::move(begun).error(), "client " + trainer_.name());
    RoundTools round{.clock = tools_.clock,
                     .observer = tools_.observer,
                     .workspace = workspace,
                     .stopped = [&aborted] { return aborted.load(); }};
    auto result = trainer_.run_round(base,
                                     {.round = start.round,
                                      .rounds = start.rounds,
                                      .base = start.base,
                                      .restart = start.restart},
                                     round);
    if (!result) return fail(std::move(result).error());
    auto encoded = protocol::encode(result->update, tools_.encoding, &untold_);
    const auto& stats = result->stats;
    return RoundDone{.update = std::move(encoded.bytes),
                     .state = state(),
                     .training = {.steps = static_cast<std::uint64_t>(stats.steps),
                                  .tokens = stats.tokens,
                                  .trained_tokens = stats.trained_tokens,
                                  .first_loss = stats.first_loss,
                                  .last_loss = stats.last_loss,
                                  .seconds = stats.seconds,
                                  .encoding_error = encoded.relative_error}};
  }

  [[nodiscard]] bool keeps_untold() const { return tools_.encoding != protocol::Encoding::kF32; }
  // The trainer's, and behind it what was not told yet.
  [[nodiscard]] Bytes state() const {
    if (!keeps_untold()) return trainer_.save();
    ByteWriter out;
    out.block(trainer_.save());
    out.number(static_cast<std::uint32_t>(untold_.size()));
    for (const auto& [name, lost] : untold_) {
      out.text(name);
      out.number(lost.lasting_a);
      out.number(static_cast<std::uint64_t>(lost.values.rows()));
      out.number(static_cast<std::uint64_t>(lost.values.cols()));
      out.raw(std::as_bytes(lost.values.values()));
    }
    return std::move(out).take();
  }
  static bool read(ByteReader& in, protocol::Untold& untold) {
    const auto count = in.number<std::uint32_t>();
    for (std::uint32_t i = 0; count && i < *count; ++i) {
      const auto name = in.text();
      const auto lasting_a = in.number<std::uint64_t>();
      const auto rows = in.number<std::uint64_t>(), cols = in.number<std::uint64_t>();
      const std::uint64_t most = in.left() / sizeof(float);
      if (!name || !lasting_a || !rows || !cols || *rows == 0 || *cols == 0 || *rows > most / *cols)
        return false;
      tensor::Matrix values(*rows, *cols);
      const auto bytes = in.raw(values.size() * sizeof(float));
      std::memcpy(values.data(), bytes->data(), bytes->size());
      untold.emplace(*name, protocol::Lost{*lasting_a, std::move(values)});
    }
    return count && in.left() == 0;
  }

  LocalTrainer& trainer_;
  TrainerTools tools_;
  protocol::Untold untold_;
  std::shared_ptr<std::atomic<bool>> aborted_ = std::make_shared<std::atomic<bool>>(false);
};

}  // namespace

std::unique_ptr<RoundWorker> make_trainer_worker(LocalTrainer& trainer, TrainerTools tools) {
  return std::make_unique<TrainerWorker>(trainer, tools);
}

}  // namespace strata::client

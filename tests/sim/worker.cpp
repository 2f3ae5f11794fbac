#include "sim/worker.h"

#include <limits>

namespace strata::sim {

Worker::Worker(ProcessExecutor& executor, Setup setup)
    : executor_(executor), setup_(std::move(setup)) {}

client::RoundDone Worker::make(const client::RoundStart& start) {
  std::uint64_t base = 0;
  std::memcpy(&base, start.base.data(), sizeof base);
  const sys::Stream root =
      sys::Stream(setup_.seed)
          .at({.client = sys::name_hash(setup_.client), .round = start.round, .purpose = "state"});
  const std::uint64_t noise = setup_.noise == nullptr ? 0 : ++*setup_.noise;
  sys::Stream state =
      root.at({.step = start.used_before ? 1u : 0u, .item = state_ ^ base ^ (noise << 32)});
  state_ = state.below(std::numeric_limits<std::uint64_t>::max());

  protocol::Update update = draw_update(start, state_);
  client::RoundDone out;
  out.update = protocol::encode(update, protocol::Encoding::kF32).bytes;
  ByteWriter kept;
  kept.number(state_);
  out.state = std::move(kept).take();
  if (setup_.spoilt.contains(start.round) || setup_.made == nullptr) return out;
  const Sha256 hash = sha256(out.update);
  setup_.made->emplace(hash, std::move(update));
  if (setup_.others != nullptr) {
    protocol::Update other = draw_update(start, ~state_);
    Bytes bytes = protocol::encode(other, protocol::Encoding::kF32).bytes;
    setup_.made->emplace(sha256(bytes), std::move(other));
    setup_.others->emplace(hash, std::move(bytes));
  }
  return out;
}

protocol::Update Worker::draw_update(const client::RoundStart& start, std::uint64_t seed) const {
  const Spoilt spoilt =
      setup_.spoilt.contains(start.round) ? setup_.spoilt.at(start.round) : Spoilt::kNo;
  const std::size_t rank = setup_.rank + (spoilt == Spoilt::kRank ? 1 : 0);
  protocol::Update update{.client = setup_.client,
                          .round = start.round,
                          .base = start.base,
                          .weight = 1.0 + static_cast<double>(setup_.rank),
                          .delta = {}};
  sys::Stream draw(seed);
  for (const auto& layer : setup_.layers) {
    adapter::LowRank pair{.b = tensor::Matrix(layer.d_out, rank),
                          .a = tensor::Matrix(rank, layer.d_in)};
    for (float& v : pair.b.values()) v = static_cast<float>(0.1 * draw.normal());
    for (float& v : pair.a.values()) v = static_cast<float>(0.1 * draw.normal());
    if (spoilt == Spoilt::kNan) pair.a.values()[0] = std::numeric_limits<float>::quiet_NaN();
    adapter::TensorDelta delta{layer.d_out, layer.d_in, {}};
    delta.terms.emplace_back(std::move(pair));
    update.delta.emplace(layer.name + (spoilt == Spoilt::kTensor ? "x" : ""), std::move(delta));
  }
  return update;
}

void Worker::train(const client::RoundStart& start,
                   std::function<void(Result<client::RoundDone>)> done) {
  done_ = std::move(done);
  if (auto paid = setup_.budget ? setup_.budget->reserve(start.run, start.round) : Result<void>{};
      !paid) {
    executor_.post([answer = std::exchange(done_, nullptr), why = std::move(paid).error()] {
      answer(fail(why));
    });
    return;
  }
  sys::Stream draw =
      sys::Stream(setup_.seed)
          .at({.client = sys::name_hash(setup_.client), .round = start.round, .purpose = "time"});
  timer_ = executor_.after(draw.uniform(0.1, setup_.longest), [this, start] {
    const auto found = setup_.spoilt.find(start.round);
    const auto answer = std::exchange(done_, nullptr);
    if (found != setup_.spoilt.end() && found->second == Spoilt::kFails) {
      answer(fail({.code = ErrorCode::kNumeric, .what = "the loss is not finite"}));
    } else {
      answer(make(start));
    }
  });
}

void Worker::abort() {
  if (!done_) return;
  executor_.cancel(timer_);
  executor_.post([answer = std::exchange(done_, nullptr)] {
    answer(fail({.code = ErrorCode::kInterrupted, .what = "aborted"}));
  });
}

Result<void> Worker::release(const protocol::RunId& run, std::uint32_t round,
                             const Sha256& update) {
  return setup_.budget == nullptr ? Result<void>{} : setup_.budget->release(run, round, update);
}

Result<protocol::LedgerMark> Worker::mark() {
  return setup_.budget == nullptr ? protocol::LedgerMark{} : setup_.budget->mark();
}

Result<void> Worker::check_remembered(const protocol::LedgerMark& seen) {
  return setup_.budget == nullptr ? Result<void>{} : setup_.budget->check_remembered(seen);
}

Result<void> Worker::restore(ByteSpan state) {
  state_ = 0;
  if (state.empty()) return {};
  const auto kept = ByteReader(state).number<std::uint64_t>();
  if (!kept) return fail({.code = ErrorCode::kDamaged, .what = "is no state"});
  state_ = *kept;
  return {};
}

}  // namespace strata::sim

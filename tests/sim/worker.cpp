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
  sys::Stream state = root.at({.step = start.used_before ? 1u : 0u, .item = state_ ^ base});
  state_ = state.below(std::numeric_limits<std::uint64_t>::max());

  const Spoilt spoilt =
      setup_.spoilt.contains(start.round) ? setup_.spoilt.at(start.round) : Spoilt::kNo;
  const std::size_t rank = setup_.rank + (spoilt == Spoilt::kRank ? 1 : 0);
  protocol::Update update{.client = setup_.client,
                          .round = start.round,
                          .base = start.base,
                          .weight = 1.0 + static_cast<double>(setup_.rank),
                          .delta = {}};
  sys::Stream draw(state_);
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
  client::RoundDone out;
  out.update = protocol::encode(update, protocol::Encoding::kF32).bytes;
  ByteWriter kept;
  kept.number(state_);
  out.state = std::move(kept).take();
  if (spoilt == Spoilt::kNo && setup_.made != nullptr)
    setup_.made->emplace(sha256(out.update), std::move(update));
  return out;
}

void Worker::train(const client::RoundStart& start,
                   std::function<void(Result<client::RoundDone>)> done) {
  done_ = std::move(done);
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

Result<void> Worker::restore(ByteSpan state) {
  state_ = 0;
  if (state.empty()) return {};
  const auto kept = ByteReader(state).number<std::uint64_t>();
  if (!kept) return fail({.code = ErrorCode::kDamaged, .what = "is no state"});
  state_ = *kept;
  return {};
}

}  // namespace strata::sim

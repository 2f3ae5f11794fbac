#include "client/private_step.h"

#include <numeric>

#include "client/heads.h"
#include "client/passes.h"
#include "evaluation/pack.h"
#include "privacy/noise/poisson.h"

namespace strata::client {
namespace {

Result<std::vector<std::size_t>> draw(const DpSgdConfig& config, std::size_t units,
                                      noise::NoiseSupply& supply) {
  if (config.sampling_rate) {
    supply.begin();
    return noise::select(*config.sampling_rate, units, supply.piece(0, 0));
  }
  std::vector<std::size_t> all(units);
  std::iota(all.begin(), all.end(), std::size_t{0});
  return all;
}

// The units of a step over the heads, each wherever chance puts it, whatever the others do: whose
// gradient a unit changes tells nothing of who else there is.
std::vector<std::vector<std::size_t>> deal(const std::vector<std::size_t>& drawn, std::size_t heads,
                                           noise::NoiseSupply& supply) {
  if (heads == 1) return {drawn};
  std::vector<std::vector<std::size_t>> out(heads);
  supply.begin();
  noise::NoiseSource& source = supply.piece(0, 0);
  for (const std::size_t unit : drawn) out[source.next() % heads].push_back(unit);
  return out;
}

}  // namespace

Result<void> private_step(model::Decoder& decoder, StepMemory& memory, Trainable& trainable,
                          Optimizer& optimizer, std::span<const text::Example> examples,
                          const Units& units, const DpSgdConfig& config, PrivateGradient& gradient,
                          noise::NoiseSupply& supply, const TrainingConfig& training,
                          double learning_rate, const sys::Stream& dropout, PlantedUnits* planted) {
  const std::size_t beside = planted != nullptr ? planted->count() : 0;
  auto drawn = draw(config, units.size() + beside, supply);
  if (!drawn) return fail(std::move(drawn).error());
  std::vector<std::size_t> records;
  std::vector<bool> ends;  // whether the record is its unit's last
  std::vector<std::size_t> by_head;
  for (const auto& share : deal(*drawn, trainable.adapters()->heads(), supply)) {
    const std::size_t before = records.size();
    for (const std::size_t unit : share) {
      if (unit >= units.size()) {
        gradient.add_unit(
            [&](std::span<float> own) { planted->gradient(unit - units.size(), own); },
            decoder.team());
        continue;
      }
      for (const std::size_t record : units[unit]) {
        records.push_back(record);
        ends.push_back(record == units[unit].back());
      }
    }
    by_head.push_back(records.size() - before);
  }
  const Heads heads(trainable, by_head);
  trainable.prepare(decoder.team());
  std::uint32_t number = 0;
  for (const PassRange& pass :
       plan_passes(examples, records, static_cast<std::size_t>(training.pass_tokens),
                   gradient.records_max())) {
    memory.batch.clear();
    std::vector<float> weights;
    for (std::size_t i = pass.first; i < pass.first + pass.count; ++i) {
      const auto& example = examples[records[i]];
      evaluation::pack(memory.batch, example);
      // By its own length only: a divisor over the batch would tie records together.
      const std::size_t own = example.trained_tokens();
      weights.push_back(own > 0 ? static_cast<float>(1.0 / static_cast<double>(own)) : 0.0f);
    }
    const auto head_rows = heads.rows(pass.first, memory.batch.offsets);
    model::TrainRequest request{.record_weights = weights,
                                .dropout = dropout.at({.step = number++, .purpose = "pass"}),
                                .head_rows = head_rows};
    trainable.aim(request);
    request.records = &gradient.begin_pass(memory.batch.offsets);
    (void)decoder.train(memory.batch, request);
    const sys::Span span(decoder.timeline(), "record clipping", 0.0);
    const std::vector<bool> last(
        ends.begin() + static_cast<std::ptrdiff_t>(pass.first),
        ends.begin() + static_cast<std::ptrdiff_t>(pass.first + pass.count));
    if (auto added = gradient.end_pass(last, decoder.team()); !added) return added;
  }
  const auto params = trainable.params();
  const double clip_norm = gradient.clip_norm();
  {
    const sys::Span span(decoder.timeline(), "noise", 0.0);
    if (auto released = gradient.release(supply, params, decoder.team()); !released)
      return released;
  }
  if (planted != nullptr) planted->released(params, clip_norm);
  heads.scale(params, decoder.team());
  const sys::Span span(decoder.timeline(), "optimizer", 0.0);
  optimizer.step(params, learning_rate, decoder.team());
  return {};
}

}  // namespace strata::client

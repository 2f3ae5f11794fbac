#include "cli/bench_train.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "client/private_step.h"
#include "client/training_step.h"
#include "tensor/team.h"
#include "tensor/typed_rows.h"

namespace strata::cli {
namespace {

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

std::vector<text::Example> drawn_examples(std::size_t records, std::size_t length,
                                          const model::DecoderConfig& model) {
  sys::Stream draws = sys::Stream(7).at({.purpose = "bench"});
  std::vector<text::Example> out(records);
  if (model.patches) {
    for (auto& example : out) {
      example.tokens.assign(model.max_positions, 0);
      example.pixels.resize(model.patches->count() * model.patches->width());
      for (auto& value : example.pixels) value = static_cast<std::uint8_t>(draws.below(256));
      example.label = static_cast<std::int32_t>(draws.below(model.vocab));
      example.source = "bench";
    }
    return out;
  }
  const std::size_t vocab = model.vocab;
  for (auto& example : out) {
    for (std::size_t t = 0; t < length; ++t)
      example.tokens.push_back(static_cast<std::int32_t>(draws.below(vocab)));
    example.trained.assign(length, 1);
    example.source = "bench";
  }
  return out;
}

}  // namespace

double gemm_peak_gflops(tensor::DType dtype, const sys::Clock& clock, tensor::Team& team) {
  struct Shape {
    std::size_t m, n, k;
  };
  constexpr std::array<Shape, 3> kShapes{{{512, 1024, 1024}, {512, 1536, 576}, {1024, 2048, 512}}};
  constexpr float kValue = 0.37f;
  struct Thread {
    tensor::Gemm gemm;
    std::vector<float> a, b, c;
  };
  std::vector<Thread> threads(static_cast<std::size_t>(team.size()));
  double best = 0.0;
  for (const auto& [m, n, k] : kShapes) {
    const auto product = [&, m = m, n = n, k = k](int member) {
      Thread& t = threads[static_cast<std::size_t>(member)];
      const tensor::TypedRows left(t.a.data(), dtype, m, k);
      const tensor::TypedRows right(t.b.data(), dtype, k, n);
      t.gemm.multiply({t.c.data(), m, n}, left, right, false);
    };
    for (Thread& t : threads) {
      t.a.assign(m * k, kValue);
      t.b.assign(n * k, kValue);
      t.c.assign(m * n, 0.0f);
      const std::vector<float> values(std::max(m, n) * k, kValue);
      tensor::TypedRows(t.a.data(), dtype, m, k).take({values.data(), m, k});
      tensor::TypedRows(t.b.data(), dtype, k, n).take({values.data(), k, n});
    }
    team.run(product);
    for (int i = 0; i < 20; ++i) {
      const double start = clock.seconds();
      team.run(product);
      const double seconds = clock.seconds() - start;
      best = std::max(best, 2.0 * static_cast<double>(threads.size() * m * n * k) / seconds / 1e9);
    }
  }
  return best;
}

namespace {

// How far up its layer a linear site stands; sites of one step share their input.
int step_of(const model::Model& model, std::size_t site) {
  const auto& parts = model.layers()[model.linears()[site].layer];
  if (site == parts.down) return 3;
  if (site == parts.up || site == parts.gate) return 2;
  return site == parts.o ? 1 : 0;
}

}  // namespace

double needed_flops(const model::Model& model, const adapter::AdapterSet& adapters,
                    std::span<const text::Example> records) {
  const auto& c = model.config();
  const auto sites = model.linears();
  double tokens = 0.0, trained = 0.0, pairs = 0.0;
  for (const auto& record : records) {
    const auto length = static_cast<double>(record.tokens.size());
    tokens += length;
    trained += static_cast<double>(record.trained_tokens());
    pairs += length * (length + 1.0) / 2.0;
  }
  std::size_t lowest = 0;
  while (lowest < sites.size() && adapters.at(lowest) == nullptr) ++lowest;
  double total = 0.0;
  for (std::size_t i = 0; i < sites.size(); ++i) {
    const double size = static_cast<double>(sites[i].d_out) * static_cast<double>(sites[i].d_in);
    const bool input_gradient =
        lowest < sites.size() &&
        (sites[i].layer > sites[lowest].layer ||
         (sites[i].layer == sites[lowest].layer && step_of(model, i) > step_of(model, lowest)));
    total += 2.0 * size * tokens * (input_gradient ? 2.0 : 1.0);
    if (const auto* adapter = adapters.at(i)) {
      total += 6.0 * static_cast<double>(adapter->rank()) *
               static_cast<double>(sites[i].d_out + sites[i].d_in) * tokens;
    }
  }
  total += 4.0 * static_cast<double>(c.vocab) * static_cast<double>(c.hidden) * trained;
  total += 3.0 * 4.0 * pairs * static_cast<double>(c.query_width()) * static_cast<double>(c.layers);
  return total;
}

namespace {

// What private steps need beside the plain ones' things.
struct PrivateParts {
  client::DpSgdConfig config;
  std::unique_ptr<noise::NoiseSupply> supply;
  client::PrivateGradient gradient;
};

Result<std::optional<PrivateParts>> private_parts(const BenchTrainOptions& options,
                                                  const adapter::AdapterSet& adapters,
                                                  client::StepMemory& memory) {
  if (options.noise_multiplier <= 0.0) return std::optional<PrivateParts>{};
  client::DpSgdConfig config{.noise_multiplier = options.noise_multiplier,
                             .divisor = static_cast<double>(options.records)};
  config.clip.norm = options.record_max_norm;
  auto supply = noise::make_secure_supply(options.threads);
  if (!supply) return fail(std::move(supply).error());
  auto gradient = client::PrivateGradient::make(config, 0.0, adapters, memory.record_gradients);
  if (!gradient) return fail(std::move(gradient).error());
  return std::optional(PrivateParts{std::move(config), std::move(*supply), std::move(*gradient)});
}

}  // namespace

Result<BenchTrainReport> bench_train(const model::Model& model, const BenchTrainOptions& options,
                                     const sys::Clock& clock) {
  BenchTrainReport report;
  const double begin = clock.seconds();
  model::Workspace workspace(options.threads);
  const sys::Stream stream(1);
  auto trainable = client::make_trainable(options.adapter, model, stream, stream);
  if (!trainable) return fail(std::move(trainable).error());
  if (!options.initial.empty()) {
    if (auto loaded = (*trainable)->load(options.initial); !loaded)
      return fail(std::move(loaded).error());
  }
  client::TrainingConfig training;
  if (options.pass_tokens > 0)
    training.pass_tokens = static_cast<std::int64_t>(options.pass_tokens);
  training.recompute = options.recompute;
  training.record_max_norm = options.record_max_norm;
  training.optimizer.learning_rate = options.learning_rate;
  auto optimizer = client::make_optimizer(training.optimizer);
  if (!optimizer) return fail(std::move(optimizer).error());
  (*trainable)->begin_round(model);
  const auto examples = options.examples.empty()
                            ? drawn_examples(options.records, options.length, model.config())
                            : options.examples;
  model::Decoder decoder((*trainable)->model(), workspace, {.recompute = options.recompute});
  const auto* adapters = (*trainable)->adapters();
  if (adapters != nullptr) report.initial = adapters->delta();
  report.start_seconds = clock.seconds() - begin;
  report.gemm_peak_gflops = gemm_peak_gflops(model.compute(), clock, workspace.team());

  client::StepMemory memory;
  check(adapters != nullptr, "this trains adapters");
  auto noisy = private_parts(options, *adapters, memory);
  if (!noisy) return fail(std::move(noisy).error());
  sys::Profile profile(clock, options.threads);
  std::vector<double> seconds;
  double tokens = 0.0, flops = 0.0;
  std::size_t at = 0;
  for (int step = 0; step < options.warmup + options.steps; ++step) {
    const bool timed = step >= options.warmup;
    if (options.profile && step == options.warmup) workspace.set_profile(&profile);
    std::vector<std::size_t> records(options.records);
    for (auto& record : records) record = at++ % examples.size();
    const double start = clock.seconds();
    if (*noisy) {
      client::Units units;
      for (const std::size_t record : records) units.push_back({record});
      auto done = client::private_step(decoder, memory, **trainable, **optimizer, examples, units,
                                       (*noisy)->config, (*noisy)->gradient, *(*noisy)->supply,
                                       training, options.learning_rate, stream);
      if (!done) return fail(std::move(done).error());
    } else {
      auto done = client::training_step(decoder, memory, **trainable, **optimizer, examples,
                                        records, training, options.learning_rate, stream);
      if (!done) return fail(std::move(done).error());
      report.losses.push_back(done->loss);
    }
    if (!timed) continue;
    seconds.push_back(clock.seconds() - start);
    for (const std::size_t i : records) tokens += static_cast<double>(examples[i].tokens.size());
    std::vector<text::Example> batch;
    batch.reserve(records.size());
    for (const std::size_t i : records) batch.push_back(examples[i]);
    flops += needed_flops(model, *adapters, batch);
  }
  const double total = std::accumulate(seconds.begin(), seconds.end(), 0.0);
  if (options.profile) {
    report.profile = profile.rows();
    report.profiled_seconds = total * options.threads;
    report.trace = profile.chrome_trace();
  }
  for (const auto& param : (*trainable)->params()) report.trainable += param.value.size();
  report.step_seconds = median(seconds);
  report.tokens_per_second = tokens / total;
  report.flops_per_step = flops / options.steps;
  report.flop_utilization = flops / total / 1e9 / report.gemm_peak_gflops;
  report.peak_rss_bytes = sys::peak_memory_bytes();
  return report;
}

}  // namespace strata::cli

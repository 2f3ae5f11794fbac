#include "cli/bench_train.h"

#include <algorithm>
#include <array>
#include <numeric>

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
                                          std::size_t vocab) {
  sys::Stream draws = sys::Stream(7).at({.purpose = "bench"});
  std::vector<text::Example> out(records);
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
                    std::size_t records, std::size_t length, std::size_t trained) {
  const auto& c = model.config();
  const auto sites = model.linears();
  const double tokens = static_cast<double>(records * length);
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
  total += 4.0 * static_cast<double>(c.vocab) * static_cast<double>(c.hidden) *
           static_cast<double>(trained);
  const double pairs = static_cast<double>(length) * static_cast<double>(length + 1) / 2.0 *
                       static_cast<double>(records);
  total += 3.0 * 4.0 * pairs * static_cast<double>(c.query_width()) * static_cast<double>(c.layers);
  return total;
}

Result<BenchTrainReport> bench_train(const model::Model& model, const BenchTrainOptions& options,
                                     const sys::Clock& clock) {
  model::Workspace workspace(options.threads);
  BenchTrainReport report;
  report.gemm_peak_gflops = gemm_peak_gflops(model.compute(), clock, workspace.team());

  const sys::Stream stream(1);
  auto trainable = client::make_trainable(options.adapter, model, stream, stream);
  if (!trainable) return fail(std::move(trainable).error());
  client::TrainingConfig training;
  training.pass_tokens = static_cast<std::int64_t>(options.records * options.length);
  training.recompute = options.recompute;
  training.optimizer.learning_rate = 1e-4;
  auto optimizer = client::make_optimizer(training.optimizer);
  if (!optimizer) return fail(std::move(optimizer).error());
  (*trainable)->begin_round(model);
  const auto examples = drawn_examples(options.records, options.length, model.config().vocab);
  std::vector<std::size_t> records(examples.size());
  std::iota(records.begin(), records.end(), std::size_t{0});
  model::Decoder decoder((*trainable)->model(), workspace, {.recompute = options.recompute});
  model::PackedBatch batch;
  std::vector<double> seconds;
  sys::Profile profile(clock, options.threads);
  for (int step = 0; step <= options.steps; ++step) {
    if (options.profile && step == 1) workspace.set_profile(&profile);
    const double start = clock.seconds();
    auto done = client::training_step(decoder, batch, **trainable, **optimizer, examples, records,
                                      training, 1e-4, stream);
    if (!done) return fail(std::move(done).error());
    if (step > 0) seconds.push_back(clock.seconds() - start);
    (step == 0 ? report.first_loss : report.last_loss) = done->loss;
  }
  if (options.profile) {
    report.profile = profile.rows();
    report.profiled_seconds =
        std::accumulate(seconds.begin(), seconds.end(), 0.0) * options.threads;
    report.trace = profile.chrome_trace();
  }
  for (const auto& param : (*trainable)->params()) report.trainable += param.value.size();
  report.step_seconds = median(seconds);
  report.tokens_per_second =
      static_cast<double>(options.records * options.length) / report.step_seconds;
  if (const auto* adapters = (*trainable)->adapters()) {
    report.flops_per_step = needed_flops(model, *adapters, options.records, options.length,
                                         options.records * (options.length - 1));
    report.flop_utilization =
        report.flops_per_step / report.step_seconds / 1e9 / report.gemm_peak_gflops;
  }
  report.peak_rss_bytes = sys::peak_memory_bytes();
  return report;
}

}  // namespace strata::cli

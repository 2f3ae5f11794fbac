// The noisy gradient of a private step against the same units taken one at a time, and what must
// hold whatever the records are.
#include "client/private_step.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numeric>

#include "common/model/golden_run.h"

namespace strata::client {
namespace {

using model::GoldenRun;

constexpr double kFaint = 1e-6;  // a multiplier whose noise is one step of the grid

std::vector<text::Example> examples_of(const support::Golden& golden) {
  std::vector<text::Example> out;
  for (const auto& record : golden.records())
    out.push_back({.tokens = {record.tokens.begin(), record.tokens.end()},
                   .trained = record.trained,
                   .source = "golden"});
  return out;
}

using Vector = std::vector<double>;

double norm_of(std::span<const double> values) {
  double sum = 0.0;
  for (const double value : values) sum += value * value;
  return std::sqrt(sum);
}

// A trainable on the golden model, its records, and what a step needs.
struct Step {
  explicit Step(int threads = 1) : workspace(threads) {
    trainable = make_trainable({.rank = 4, .alpha = 6.0}, run.model, stream, stream).value();
    EXPECT_TRUE(trainable->load(run.factors(run.golden.adapter())));
    trainable->begin_round(run.model);
    training.optimizer = {.method = "sgd", .learning_rate = 1.0};
    optimizer = make_optimizer(training.optimizer).value();
    supply = noise::make_seeded_test_supply(7, threads).value();
    examples = examples_of(run.golden);
    for (std::size_t i = 0; i < examples.size(); ++i) units.push_back({i});
  }

  // Gradient of one record's mean token loss.
  Vector own(std::size_t record) {
    auto adapters = run.lora();
    model::PackedBatch batch;
    batch.add(examples[record].tokens, examples[record].trained);
    const std::vector<float> weights{1.0f / static_cast<float>(examples[record].trained_tokens())};
    model::Decoder decoder(run.model, run.workspace);
    (void)decoder.train(batch, {.adapters = &adapters, .record_weights = weights});
    Vector out;
    for (const auto& param : adapters.params())
      out.insert(out.end(), param.grad.begin(), param.grad.end());
    return out;
  }

  Vector of_unit(const std::vector<std::size_t>& records) {
    Vector out = own(records.front());
    for (std::size_t i = 1; i < records.size(); ++i) {
      const Vector more = own(records[i]);
      for (std::size_t v = 0; v < out.size(); ++v) out[v] += more[v];
    }
    return out;
  }

  PrivateGradient gradient(const DpSgdConfig& config) {
    return PrivateGradient::make(config, 0.0, *trainable->adapters(), memory.record_gradients)
        .value();
  }

  // The noisy gradient of one step at learning rate 0.
  Vector released(const DpSgdConfig& config, PrivateGradient& g) {
    model::Decoder decoder(run.model, workspace);
    auto done = private_step(decoder, memory, *trainable, *optimizer, examples, units, config, g,
                             *supply, training, 0.0, stream);
    EXPECT_TRUE(done);
    Vector out;
    for (const auto& param : trainable->params())
      out.insert(out.end(), param.grad.begin(), param.grad.end());
    return out;
  }
  Vector released(const DpSgdConfig& config) {
    auto g = gradient(config);
    return released(config, g);
  }

  GoldenRun run{"llama"};
  model::Workspace workspace;
  sys::Stream stream{1};
  std::unique_ptr<Trainable> trainable;
  std::unique_ptr<Optimizer> optimizer;
  std::unique_ptr<noise::NoiseSupply> supply;
  TrainingConfig training;
  StepMemory memory;
  std::vector<text::Example> examples;
  Units units;
};

// Between the smallest norm of a unit and the largest: some are clipped, some are not.
double middle_norm(Step& step) {
  double low = 1e30, high = 0.0;
  for (const auto& unit : step.units) {
    const double norm = norm_of(step.of_unit(unit));
    low = std::min(low, norm);
    high = std::max(high, norm);
  }
  EXPECT_LT(low, high);
  return 0.5 * (low + high);
}

void expect_near(const Vector& found, const Vector& expected, double scale) {
  ASSERT_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) ASSERT_NEAR(found[i], expected[i], scale) << i;
}

// Every unit's gradient clipped alone, added up, over the divisor.
Vector clipped_sum(Step& step, double divisor, const std::function<double(double)>& factor) {
  Vector out;
  for (const auto& unit : step.units) {
    const Vector own = step.of_unit(unit);
    const double kept = factor(norm_of(own)) / divisor;
    out.resize(own.size());
    for (std::size_t i = 0; i < own.size(); ++i) out[i] += kept * own[i];
  }
  return out;
}

class Packing : public testing::TestWithParam<std::int64_t> {};

TEST_P(Packing, SumsUnitsClippedAloneWhateverShareAPass) {
  Step step;
  step.training.pass_tokens = GetParam();
  const double c = middle_norm(step);
  const auto expected =
      clipped_sum(step, 3.0, [c](double norm) { return std::min(1.0, c / norm); });
  const auto found = step.released(
      {.clip = {.norm = c}, .noise_multiplier = kFaint, .divisor = 3.0, .grid_bits = 24});
  expect_near(found, expected, 2e-6 * c);
}

// A record's gradient as torch's autograd has it, in float64 one record at a time: the mean over
// its trained tokens, in the order of the trainable's parameters.
Vector autograd(Step& step, std::size_t record) {
  const auto tokens = static_cast<double>(step.examples[record].trained_tokens());
  Vector out;
  for (const auto& param : step.trainable->params()) {
    for (const float value :
         step.run.golden.values("lora.record." + std::to_string(record) + ".grad." + param.name))
      out.push_back(static_cast<double>(value) / tokens);
  }
  return out;
}

// Norms within 1e-6 of those, and clipped sums, each unit rounded to the grid, within 2e-6: a value
// near a grid line may fall to the other side of it (RecordClipping.SumsAreThoseOfAutograd compares
// them before that).
TEST_P(Packing, ClipsWhatAutogradHas) {
  Step step;
  step.training.pass_tokens = GetParam();
  const double c = middle_norm(step);
  const DpSgdConfig config{.clip = {.norm = c},
                           .noise_multiplier = std::ldexp(1.0, -24),
                           .divisor = 1.0,
                           .grid_bits = 24};
  const double grid = std::ldexp(c, -24);
  Vector expected;
  std::vector<double> norms;
  for (std::size_t record = 0; record < step.examples.size(); ++record) {
    const Vector own = autograd(step, record);
    norms.push_back(norm_of(own));
    const double kept = std::min(1.0, c * (1.0 - std::ldexp(1.0, -20)) / norms.back());
    expected.resize(own.size());
    for (std::size_t i = 0; i < own.size(); ++i)
      expected[i] += std::trunc(kept * own[i] / grid) * grid;
  }
  auto g = step.gradient(config);
  const Vector found = step.released(config, g);
  ASSERT_EQ(found.size(), expected.size());
  Vector off = found;
  for (std::size_t i = 0; i < off.size(); ++i) off[i] -= expected[i];
  // What is released has noise of one grid step on every value besides.
  const double noise = grid * std::sqrt(static_cast<double>(off.size()));
  const double apart = std::sqrt(std::max(0.0, std::pow(norm_of(off), 2) - noise * noise));
  EXPECT_LT(apart, 2e-6 * norm_of(expected));
  std::size_t record = norms.size() - g.norms().size();  // those of the last pass
  for (const double norm : g.norms()) {
    EXPECT_NEAR(norm / norms[record], 1.0, 1e-6) << record;
    ++record;
  }
}

// All records in one pass against one at a time: the same noise falls out of the difference.
TEST(PrivateStep, PackedRecordsAreClippedAsRecordsAlone) {
  Step packed, alone;
  alone.training.pass_tokens = 1;
  const double c = middle_norm(packed);
  const DpSgdConfig config{
      .clip = {.norm = c}, .noise_multiplier = kFaint, .divisor = 1.0, .grid_bits = 24};
  auto g = packed.gradient(config);
  const Vector together = packed.released(config, g);
  Vector apart = alone.released(config);
  for (std::size_t i = 0; i < apart.size(); ++i) apart[i] -= together[i];
  // Products of other shapes round otherwise, twice over: 1.3e-6 with AVX-512, less with AVX2.
  EXPECT_LT(norm_of(apart), 4e-6 * norm_of(together));
  ASSERT_EQ(g.norms().size(), packed.units.size());
  for (std::size_t record = 0; record < packed.units.size(); ++record)
    EXPECT_NEAR(g.norms()[record] / norm_of(packed.of_unit({record})), 1.0, 1e-6);
}

TEST_P(Packing, TakesAPersonsRecordsTogether) {
  Step step;
  step.training.pass_tokens = GetParam();
  Units people(2);
  for (std::size_t i = 0; i < step.examples.size(); ++i) people[i % 2].push_back(i);
  step.units = people;
  const double c = middle_norm(step);
  const auto expected =
      clipped_sum(step, 2.0, [c](double norm) { return std::min(1.0, c / norm); });
  const auto found = step.released(
      {.clip = {.norm = c}, .noise_multiplier = kFaint, .divisor = 2.0, .grid_bits = 24});
  expect_near(found, expected, 4e-6 * c);
}

INSTANTIATE_TEST_SUITE_P(PrivateStep, Packing, testing::Values(1, 9, 100000));

TEST(PrivateStep, NormalisesWhenToldTo) {
  Step step;
  const auto expected = clipped_sum(step, 1.0, [](double norm) { return 0.7 / (norm + 0.01); });
  const auto found = step.released({.clip = {.kind = "normalise", .norm = 0.7},
                                    .noise_multiplier = kFaint,
                                    .divisor = 1.0,
                                    .grid_bits = 24});
  expect_near(found, expected, 8e-6);  // noise of 7e-7
}

TEST(PrivateStep, ClipsEachLayerToItsOwnNorm) {
  Step step;
  const double bound = 0.05;
  DpSgdConfig config{.clip = {.kind = "per_layer", .bounds = {{".*", bound}}},
                     .noise_multiplier = kFaint,
                     .divisor = 1.0,
                     .grid_bits = 24};
  Vector expected;
  const auto params = step.trainable->params();
  for (const auto& unit : step.units) {
    const Vector own = step.of_unit(unit);
    expected.resize(own.size());
    std::size_t at = 0;
    for (std::size_t p = 0; p < params.size(); p += 2) {  // A and B of a layer
      const std::size_t count = params[p].value.size() + params[p + 1].value.size();
      const double norm = norm_of(std::span(own).subspan(at, count));
      for (std::size_t i = at; i < at + count; ++i)
        expected[i] += own[i] * std::min(1.0, bound / norm);
      at += count;
    }
  }
  auto g = step.gradient(config);
  EXPECT_NEAR(g.clip_norm(), bound * std::sqrt(static_cast<double>(params.size()) / 2.0), 1e-12);
  expect_near(step.released(config, g), expected, 3e-6);
}

TEST(PrivateStep, NeedsANormForEveryLayer) {
  Step step;
  const DpSgdConfig config{.clip = {.kind = "per_layer", .bounds = {{"q_proj", 1.0}}}};
  const auto made =
      PrivateGradient::make(config, 0.0, *step.trainable->adapters(), step.memory.record_gradients);
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().where, "privacy.clip.bounds");
}

// Deviation of everything that `steps` steps of nothing released, over what it should be.
double relative_deviation(const DpSgdConfig& config, int steps, int threads) {
  Step step(threads);
  step.units.clear();
  auto g = step.gradient(config);
  double squares = 0.0, count = 0.0;
  for (int i = 0; i < steps; ++i) {
    for (const double value : step.released(config, g)) {
      squares += value * value;
      count += 1.0;
    }
  }
  const double due = config.noise_multiplier * g.clip_norm() / config.divisor;
  return std::sqrt(squares / count) / due;
}

TEST(PrivateStep, ReleasesTheNoiseThatIsChargedForWithoutAnyUnit) {
  const DpSgdConfig flat{.clip = {.norm = 0.3}, .noise_multiplier = 1.3, .divisor = 40.0};
  for (const int threads : {1, 2, 8}) EXPECT_NEAR(relative_deviation(flat, 300, threads), 1, 5e-3);
  const DpSgdConfig layers{.clip = {.kind = "per_layer", .bounds = {{".*", 0.2}}},
                           .noise_multiplier = 0.8,
                           .divisor = 5.0};
  EXPECT_NEAR(relative_deviation(layers, 300, 1), 1.0, 5e-3);
}

TEST(PrivateStep, HasTheSameNoiseForEveryTensor) {
  Step step;
  const DpSgdConfig config{.clip = {.norm = 0.5},
                           .noise_multiplier = 1.1,
                           .sampling_rate = 1e-12,  // nobody is drawn
                           .divisor = 8.0};
  auto g = step.gradient(config);
  const auto params = step.trainable->params();
  std::vector<double> squares(params.size());
  constexpr int kSteps = 4000;
  for (int i = 0; i < kSteps; ++i) {
    (void)step.released(config, g);
    for (std::size_t p = 0; p < params.size(); ++p) {
      for (const float value : params[p].grad) squares[p] += static_cast<double>(value) * value;
    }
  }
  const double due = 1.1 * 0.5 / 8.0;
  for (std::size_t p = 0; p < params.size(); ++p) {
    const double count = kSteps * static_cast<double>(params[p].grad.size());
    EXPECT_NEAR(std::sqrt(squares[p] / count) / due, 1.0, 5e-3) << params[p].name;
  }
}

TEST(PrivateStep, AUnitThatIsNoNumberCountsAsZero) {
  Step step;
  const DpSgdConfig config{
      .clip = {.norm = 1.0}, .noise_multiplier = kFaint, .divisor = 1.0, .grid_bits = 24};
  for (const float odd :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 3e38f}) {
    auto g = step.gradient(config);
    const std::vector<std::uint32_t> offsets{0, 1, 2};
    const auto& target = g.begin_pass(offsets);
    std::fill_n(target.data, 2 * target.stride, 0.0f);
    target.data[1] = odd;
    target.data[target.stride + 2] = 0.5f;
    tensor::Team team(1);
    ASSERT_TRUE(g.end_pass({true, true}, team));
    ASSERT_TRUE(g.release(*step.supply, step.trainable->params(), team));
    const auto params = step.trainable->params();
    const double first = params[0].grad[1];
    EXPECT_TRUE(std::isfinite(first));
    EXPECT_LE(std::abs(first), 1.00001);  // a finite giant is clipped to C like any other
    if (!std::isfinite(odd)) {
      EXPECT_NEAR(first, 0.0, 1e-5);
    }
    EXPECT_NEAR(params[0].grad[2], 0.5, 1e-5);
  }
}

TEST(PrivateStep, AdaptiveClippingFollowsTheQuantile) {
  Step step;
  const double middle = middle_norm(step);
  const auto after = [&](double start) {
    const DpSgdConfig config{.clip = {.kind = "adaptive",
                                      .norm = start,
                                      .quantile = 0.5,
                                      .eta = 0.2,
                                      .sigma_b = 1e-4,
                                      .norm_min = 1e-6,
                                      .norm_max = 1e6},
                             .noise_multiplier = kFaint * 10,
                             .divisor = static_cast<double>(step.units.size())};
    auto g = step.gradient(config);
    for (int i = 0; i < 120; ++i) (void)step.released(config, g);
    return g.clip_norm();
  };
  EXPECT_LT(after(1e3 * middle), 2.0 * middle);
  EXPECT_GT(after(1e-3 * middle), 0.2 * middle);
}

TEST(PrivateStep, AdaptiveClippingStaysWithinItsBounds) {
  Step step;
  const DpSgdConfig config{.clip = {.kind = "adaptive",
                                    .norm = 0.5,
                                    .eta = 5.0,
                                    .sigma_b = 4.0,
                                    .norm_min = 0.4,
                                    .norm_max = 0.6},
                           .noise_multiplier = 1.0,
                           .divisor = 2.0};
  auto g = step.gradient(config);
  for (int i = 0; i < 20; ++i) {
    (void)step.released(config, g);
    EXPECT_GE(g.clip_norm(), 0.4);
    EXPECT_LE(g.clip_norm(), 0.6);
  }
}

// What moves C is the noisy count of units below it, over the public divisor.
TEST(PrivateStep, AdaptiveClippingMovesByNoiseOfTheCountToo) {
  constexpr double kEta = 0.2, kSigma = 3.0, kDivisor = 4.0;
  const DpSgdConfig config{.clip = {.kind = "adaptive",
                                    .norm = 1.0,
                                    .quantile = 0.5,
                                    .eta = kEta,
                                    .sigma_b = kSigma,
                                    .norm_min = 1e-300,
                                    .norm_max = 1e300},
                           .noise_multiplier = 1.0,
                           .divisor = kDivisor};
  Step step;
  const auto moves = [&](std::size_t units) {
    step.units.resize(units);
    auto g = step.gradient(config);
    double sum = 0.0, squares = 0.0;
    constexpr int kSteps = 400;
    for (int i = 0; i < kSteps; ++i) {
      const double before = g.clip_norm();
      (void)step.released(config, g);
      const double moved = std::log(g.clip_norm() / before);
      sum += moved;
      squares += moved * moved;
    }
    const double mean = sum / kSteps;
    return std::pair(mean, std::sqrt(squares / kSteps - mean * mean));
  };
  const double due = kEta * kSigma / kDivisor;
  const auto [none, noise] = moves(0);
  EXPECT_NEAR(none, 0.0, 4.4 * due / 20.0);  // centred: nobody pulls nowhere
  EXPECT_NEAR(noise / due, 1.0, 4.4 / std::sqrt(800.0));
}

// The divisor is a constant: whoever is drawn or not, it stays.
TEST(PrivateStep, DividesByTheConstantHoweverManyAreDrawn) {
  Step step;
  const DpSgdConfig config{
      .clip = {.norm = 1e3}, .noise_multiplier = 1e-6, .divisor = 10.0, .grid_bits = 24};
  const auto all = step.released(config);
  const Units everyone = step.units;
  Vector sum(all.size());
  for (const auto& unit : everyone) {
    step.units = {unit};
    const auto one = step.released(config);
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += one[i];
  }
  expect_near(sum, all, 2e-3);
}

}  // namespace
}  // namespace strata::client

// What a private client sends, round for round: as noisy as was charged, whatever was cut off and
// however many records, passes or threads there were; and which units its steps draw.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "client/local_trainer.h"
#include "client/private_step.h"
#include "common/model/golden_run.h"

namespace strata::client {
namespace {

using model::GoldenRun;
using protocol::Restart;

constexpr double kMultiplier = 30.0;  // next to it the records' gradients do not show
constexpr double kDivisor = 7.0;
constexpr double kRate = 1.0;  // of SGD: B after a step is the release

class PrivateTrainer : public testing::Test {
 protected:
  LocalTrainer trainer(std::int64_t threads, std::int64_t pass_tokens) const {
    return LocalTrainer::make(spec(), training(threads, pass_tokens), run_.model, 1000000).value();
  }
  // All that it has is one unit.
  LocalTrainer whole(double multiplier, double rate) const {
    ClientSpec own = spec();
    own.privacy->whole_update = true;
    own.privacy->noise_multiplier = multiplier;
    own.privacy->divisor = 1.0;
    TrainingConfig plain = training(1, 100000);
    plain.optimizer.learning_rate = rate;
    plain.local_steps = 3;
    return LocalTrainer::make(std::move(own), plain, run_.model, 1000000).value();
  }
  ClientSpec spec() const {
    ClientSpec spec{.name = "anna", .examples = {}};
    spec.adapter.rank = 8;
    spec.adapter.alpha = 8.0;
    spec.adapter.method = heads_ > 1 ? "lora" : "seeded-a";  // heads have an A of their own
    spec.adapter.heads = heads_;
    for (const auto& record : run_.golden.records())
      spec.examples.push_back({record.tokens, record.trained, "golden"});
    spec.privacy = DpSgdConfig{.noise_multiplier = kMultiplier, .divisor = kDivisor};
    spec.privacy->clip.norm = 0.5;
    return spec;
  }
  static TrainingConfig training(std::int64_t threads, std::int64_t pass_tokens) {
    TrainingConfig out;
    out.optimizer = {.method = "sgd", .learning_rate = kRate};
    out.local_steps = 1;
    out.threads = threads;
    out.pass_tokens = pass_tokens;
    return out;
  }

  // Adds what a round sent, tensor by tensor, over what its deviation should be.
  void round(LocalTrainer& trainer, std::uint32_t number, std::int64_t threads,
             double due = kRate * kMultiplier * 0.5 / kDivisor) {
    ASSERT_TRUE(trainer.begin(Restart::kFresh, number, true, {}, run_.model));
    model::Workspace workspace(static_cast<int>(threads));
    RoundTools tools{.clock = *clock_, .observer = nobody_, .workspace = workspace};
    const auto done = trainer.run_round(
        run_.model, {.round = number, .rounds = 1000000, .restart = Restart::kFresh}, tools);
    ASSERT_TRUE(done) << done.error().line();
    EXPECT_TRUE(std::isnan(done->stats.last_loss));
    EXPECT_EQ(done->stats.tokens, 0u);
    for (const auto& [name, delta] : done->update.delta) {
      auto& [squares, count] = seen_[name];
      for (const float value : std::get<adapter::LowRank>(delta.terms.at(0)).b.values()) {
        squares += std::pow(static_cast<double>(value) / due, 2);
        count += 1.0;
      }
    }
  }

  // 0.5 % of each tensor; a right deviation is farther off with a probability below 1e-6.
  void expect_right() {
    ASSERT_FALSE(seen_.empty());
    double squares = 0.0, count = 0.0;
    for (const auto& [name, own] : seen_) {
      squares += own.first;
      count += own.second;
      EXPECT_NEAR(std::sqrt(own.first / own.second), 1.0,
                  std::max(5e-3, 4.9 / std::sqrt(2.0 * own.second)))
          << name;
    }
    EXPECT_NEAR(std::sqrt(squares / count), 1.0, 5e-3);
    EXPECT_GT(count, 4.9 * 4.9 / (2.0 * 5e-3 * 5e-3));
  }

  GoldenRun run_{"llama"};
  observe::NullObserver nobody_;
  std::unique_ptr<sys::Clock> clock_ = sys::make_posix_clock();
  std::map<std::string, std::pair<double, double>> seen_;
  std::int64_t heads_ = 1;
};

TEST_F(PrivateTrainer, SendsTheNoiseThatIsChargedForFromAnyPassesAndThreads) {
  for (const std::int64_t threads : {1, 2, 8}) {
    for (const std::int64_t pass_tokens : {1, 20, 100000}) {
      auto own = trainer(threads, pass_tokens);
      for (std::uint32_t number = 1; number <= 60; ++number) round(own, number, threads);
    }
  }
  expect_right();
}

// The same of each of two heads: their units are some of the step's, their mean over as much less,
// and so their noise is twice as large.
TEST_F(PrivateTrainer, SendsTwiceTheNoiseToEachOfTwoHeads) {
  heads_ = 2;
  for (std::uint32_t number = 1; number <= 300; ++number) {
    auto own = trainer(1, 100000);
    // Told with the share of a head, one half.
    round(own, number, 1, kRate * kMultiplier * 0.5 / kDivisor * 2.0 * 0.5);
  }
  expect_right();
}

// A client that is stopped and goes on every other round: no noise twice, none missing.
TEST_F(PrivateTrainer, SendsTheSameNoiseAfterBeingStopped) {
  Bytes state;
  for (std::uint32_t number = 1; number <= 400; ++number) {
    auto own = trainer(1, 100000);
    ASSERT_TRUE(own.load(state, run_.model));
    round(own, number, 1);
    state = own.save();
  }
  expect_right();
}

// Units whose gradient is one value of their own: whoever is drawn shows.
class Probe final : public PlantedUnits {
 public:
  static constexpr std::size_t kUnits = 300;
  std::size_t count() const override { return kUnits; }
  void gradient(std::size_t unit, std::span<float> out) const override {
    std::fill(out.begin(), out.end(), 0.0F);
    out[unit] = 1.0F;
  }
  void released(std::span<const adapter::ParamRef> params, double) override {
    std::vector<float> all;
    for (const auto& param : params) all.insert(all.end(), param.grad.begin(), param.grad.end());
    auto& drawn = steps.emplace_back();
    for (std::size_t unit = 0; unit < kUnits; ++unit) drawn.push_back(all[unit] > 0.5F);
  }
  std::vector<std::vector<bool>> steps;
};

// Each unit by itself and in each step anew: neither batches of one size, nor in turn, nor all of
// an epoch once. The seed makes the test repeatable; a right draw fails with a probability of 1e-5.
TEST(PrivateSteps, DrawEveryUnitByItself) {
  constexpr double kQ = 0.3;
  constexpr int kSteps = 200;
  GoldenRun run("llama");
  model::Workspace workspace(1);
  const sys::Stream stream(1);
  auto trainable = make_trainable({.rank = 4, .alpha = 6.0}, run.model, stream, stream).value();
  trainable->begin_round(run.model);
  TrainingConfig training;
  auto optimizer = make_optimizer(training.optimizer).value();
  auto supply = noise::make_seeded_test_supply(3, 1).value();
  StepMemory memory;
  const DpSgdConfig config{
      .clip = {.norm = 1.0}, .noise_multiplier = 1e-3, .sampling_rate = kQ, .divisor = 1.0};
  auto gradient =
      PrivateGradient::make(config, 0.0, *trainable->adapters(), memory.record_gradients).value();
  Probe probe;
  model::Decoder decoder(run.model, workspace);
  for (int step = 0; step < kSteps; ++step) {
    ASSERT_TRUE(private_step(decoder, memory, *trainable, *optimizer, {}, {}, config, gradient,
                             *supply, training, 0.0, stream, &probe));
  }
  std::vector<double> of_unit(Probe::kUnits);
  double sizes = 0.0, again = 0.0;
  const auto far = [](double n) { return 4.4 * std::sqrt(2.0 * n); };  // of a sum of n squares
  for (int step = 0; step < kSteps; ++step) {
    double size = 0.0;
    for (std::size_t unit = 0; unit < Probe::kUnits; ++unit) {
      const auto& drawn = probe.steps[static_cast<std::size_t>(step)];
      size += drawn[unit];
      of_unit[unit] += drawn[unit];
      if (step > 0) again += drawn[unit] && probe.steps[static_cast<std::size_t>(step - 1)][unit];
    }
    const double due = kQ * Probe::kUnits;
    sizes += (size - due) * (size - due) / (due * (1.0 - kQ));
  }
  EXPECT_NEAR(sizes, kSteps, far(kSteps));
  double counts = 0.0;
  for (const double count : of_unit) {
    const double due = kQ * kSteps;
    counts += (count - due) * (count - due) / (due * (1.0 - kQ));
  }
  EXPECT_NEAR(counts, Probe::kUnits, far(Probe::kUnits));
  const double pairs = (kSteps - 1) * static_cast<double>(Probe::kUnits);
  EXPECT_NEAR(again / pairs, kQ * kQ, 4.4 * std::sqrt(kQ * kQ / pairs));
}

TEST_F(PrivateTrainer, AWholeClientsUpdateIsAsNoisyAsWasCharged) {
  auto own = whole(kMultiplier, 1e-3);
  for (std::uint32_t number = 1; number <= 400; ++number) round(own, number, 1, kMultiplier * 0.5);
  expect_right();
}

// However far training goes, the update is C long.
TEST_F(PrivateTrainer, AWholeClientsUpdateIsClipped) {
  for (const double rate : {1e-4, 1e-2, 1.0, 1e6}) {
    auto own = whole(1e-6, rate);
    seen_.clear();
    round(own, 1, 1, 1.0);
    double squares = 0.0;
    for (const auto& [name, values] : seen_) squares += values.first;
    EXPECT_LE(std::sqrt(squares), 0.5 * (1.0 + 1e-4)) << rate;
    if (rate == 1.0) {
      EXPECT_GE(std::sqrt(squares), 0.49);
    }
  }
  EXPECT_EQ(whole(1.0, 1.0).units(), 1u);
}

// That its records make training fail is nobody's business: it sends what was charged, noise.
TEST_F(PrivateTrainer, AWholeClientWhoseTrainingFailsSendsNoise) {
  constexpr double kBeyondFloats = 1e38;
  {
    ClientSpec plain = spec();
    plain.privacy.reset();
    TrainingConfig config = training(1, 100000);
    config.optimizer.learning_rate = kBeyondFloats;
    config.local_steps = 3;
    auto open = LocalTrainer::make(std::move(plain), config, run_.model, 1).value();
    RoundTools tools{.clock = *clock_, .observer = nobody_, .workspace = run_.workspace};
    const auto failed = open.run_round(run_.model, {.round = 1}, tools);
    ASSERT_FALSE(failed);
    ASSERT_EQ(failed.error().code, ErrorCode::kNumeric);
  }
  auto own = whole(kMultiplier, kBeyondFloats);
  for (std::uint32_t number = 1; number <= 400; ++number) round(own, number, 1, kMultiplier * 0.5);
  expect_right();
}

// A person's records are one unit, so the quota, the ledger and the bound on delta count people.
// Under client_central the update leaves as it is, and a round whose training fails changes
// nothing; neither is told. All clients begin with the same factors, whatever their names.
TEST_F(PrivateTrainer, ACentralClientSendsItsChangeAndTellsNothing) {
  for (const double rate : {0.1, 1e38}) {
    std::vector<adapter::LowRank> first;
    for (const char* name : {"anna", "berta"}) {
      ClientSpec own = spec();
      own.name = name;
      own.privacy.reset();
      own.central = true;
      own.adapter.method = "lora";
      TrainingConfig plain = training(1, 100000);
      plain.optimizer.learning_rate = rate;
      plain.local_steps = 3;
      auto central = LocalTrainer::make(std::move(own), plain, run_.model, 10).value();
      model::Workspace workspace(1);
      RoundTools tools{.clock = *clock_, .observer = nobody_, .workspace = workspace};
      const auto done = central.run_round(
          run_.model, {.round = 1, .rounds = 10, .restart = Restart::kMean}, tools);
      ASSERT_TRUE(done) << done.error().line();
      EXPECT_TRUE(std::isnan(done->stats.last_loss));
      EXPECT_EQ(done->stats.tokens, 0u);
      EXPECT_EQ(done->stats.seconds, 0.0);
      EXPECT_EQ(done->update.weight, 1.0);
      first.push_back(std::get<adapter::LowRank>(done->update.delta.begin()->second.terms.front()));
    }
    const auto b = first.front().b.values();
    const bool changed = std::any_of(b.begin(), b.end(), [](float v) { return v != 0.0F; });
    EXPECT_EQ(changed, rate < 1.0);
    EXPECT_EQ(first[0].a == first[1].a, !changed);
  }
}

TEST_F(PrivateTrainer, CountsPeopleWhereTheUnitIsAPerson) {
  ClientSpec spec{.name = "anna", .examples = {}};
  for (int i = 0; i < 6; ++i) {
    const auto& record = run_.golden.records()[0];
    spec.examples.push_back({record.tokens, record.trained, "golden"});
    spec.people.emplace_back(i < 4 ? "x" : "y");
  }
  spec.adapter.rank = 2;
  spec.privacy = DpSgdConfig{};
  EXPECT_EQ(LocalTrainer::make(std::move(spec), {}, run_.model, 1).value().units(), 2u);
}

}  // namespace
}  // namespace strata::client

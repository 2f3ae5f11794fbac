// A client whose A is drawn anew each round: what it trains, and what it draws in which round.
#include <gtest/gtest.h>

#include <algorithm>

#include "adapter/seeded_factors.h"
#include "client/local_trainer.h"
#include "common/model/golden_run.h"

namespace strata::client {
namespace {

using adapter::LowRank;
using model::GoldenRun;
using protocol::Restart;

adapter::AdapterConfig config_of(std::size_t rank, const char* method = "seeded-a") {
  adapter::AdapterConfig out{.rank = static_cast<std::int64_t>(rank), .alpha = 6.0};
  out.method = method;
  return out;
}

std::vector<text::Example> examples_of(const support::Golden& golden) {
  std::vector<text::Example> out;
  for (const auto& record : golden.records())
    out.push_back({record.tokens, record.trained, "golden"});
  return out;
}

TrainingConfig training() {
  TrainingConfig out;
  out.batch_size = 2;
  out.local_steps = 2;
  out.seed = 5;
  return out;
}

class SeededA : public testing::Test {
 protected:
  LocalTrainer trainer(const std::string& name, std::size_t rank,
                       const char* method = "seeded-a") const {
    return LocalTrainer::make({.name = name,
                               .adapter = config_of(rank, method),
                               .examples = examples_of(run_.golden)},
                              training(), run_.model, 4)
        .value();
  }
  adapter::DeltaTerms round(LocalTrainer& trainer, std::uint32_t number) {
    EXPECT_TRUE(trainer.begin(Restart::kFresh, number, true, {}, run_.model));
    RoundTools tools{.clock = *clock_, .observer = nobody_, .workspace = run_.workspace};
    return trainer
        .run_round(run_.model, {.round = number, .rounds = 4, .restart = Restart::kFresh}, tools)
        .value()
        .update.delta;
  }
  static const LowRank& pair(const adapter::TensorDelta& delta) {
    return std::get<LowRank>(delta.terms.at(0));
  }

  GoldenRun run_{"llama"};
  observe::NullObserver nobody_;
  std::unique_ptr<sys::Clock> clock_ = sys::make_posix_clock();
};

TEST_F(SeededA, EveryClientAndTheCoordinatorDrawTheSameRowsAndOthersEachRound) {
  auto anna = trainer("anna", 2);
  auto berta = trainer("berta", 4);
  std::map<std::string, tensor::Matrix> before;
  for (std::uint32_t number = 1; number <= 3; ++number) {
    const adapter::SeededFactors drawn(adapter::shared_stream(5), number);
    const auto one = round(anna, number), two = round(berta, number);
    ASSERT_FALSE(one.empty());
    for (const auto& [name, delta] : two) {
      const LowRank& large = pair(delta);
      const LowRank& small = pair(one.at(name));
      EXPECT_TRUE(large.a == drawn.a(name, 4, delta.d_in)) << name;
      EXPECT_TRUE(small.a == drawn.a(name, 2, delta.d_in)) << name;
      EXPECT_EQ(small.id_a, large.id_a);
      EXPECT_EQ(large.id_a, drawn.id(name));
      EXPECT_NE(before[name], large.a) << name;
      before[name] = large.a;
      EXPECT_TRUE(std::any_of(large.b.values().begin(), large.b.values().end(),
                              [](float v) { return v != 0.0F; }));
    }
  }
}

// Killed after round 1 and started again, or joining late: round 3 is the same.
TEST_F(SeededA, GoesOnWithTheSameFactorsWhereverItWasCutOff) {
  auto whole = trainer("anna", 3);
  (void)round(whole, 1);
  const Bytes state = whole.save();
  const auto expected = round(whole, 3);
  auto again = trainer("anna", 3);
  ASSERT_TRUE(again.load(state, run_.model));
  const auto resumed = round(again, 3);
  for (const auto& [name, delta] : expected) {
    EXPECT_TRUE(pair(delta).a == pair(resumed.at(name)).a) << name;
    EXPECT_TRUE(pair(delta).b == pair(resumed.at(name)).b) << name;
  }
}

// The gradient of B is that of a pair of trained factors with the same A; there is no other.
TEST_F(SeededA, TrainsBAloneByTheGradientThatLoraGivesIt) {
  const auto shapes = run_.shapes();
  const sys::Stream shared = adapter::shared_stream(5);
  auto seeded = adapter::AdapterSet::make(config_of(3), shapes, shared, 2).value();
  auto lora = adapter::AdapterSet::make(config_of(3, "lora"), shapes, shared, 2).value();
  seeded.reset(sys::Stream(1));
  std::map<std::string, adapter::Factors> factors;
  sys::Stream draws(4);
  for (const auto& shape : shapes) {
    auto& own = factors[shape.module];
    own.a = adapter::SeededFactors(shared, 2).a(shape.module + ".weight", 3, shape.d_in);
    own.b = tensor::Matrix(shape.d_out, 3);
    for (float& value : own.b.values()) value = static_cast<float>(draws.uniform(-0.1, 0.1));
  }
  for (auto* set : {&seeded, &lora}) {
    const auto loaded = set->load(factors);
    ASSERT_TRUE(loaded) << loaded.error().line();
    set->prepare(run_.model.compute());
    model::Decoder decoder(run_.model, run_.workspace);
    (void)decoder.train(run_.batch, {.adapters = set, .record_weights = run_.mean_weights()});
  }
  std::map<std::string, std::vector<float>> of_lora;
  for (const auto& param : lora.params())
    of_lora[param.name] = {param.grad.begin(), param.grad.end()};
  const auto own = seeded.params();
  ASSERT_EQ(own.size(), shapes.size());
  std::size_t values = 0;
  for (const auto& param : own) {
    EXPECT_EQ(param.role, adapter::ParamRole::kFactorB);
    const std::vector<float> gradient(param.grad.begin(), param.grad.end());
    EXPECT_EQ(gradient, of_lora.at(param.name)) << param.name;
    EXPECT_NE(gradient, std::vector<float>(gradient.size(), 0.0F)) << param.name;
    values += gradient.size();
  }
  EXPECT_EQ(seeded.trainable_count(), values);
  EXPECT_LT(values, lora.trainable_count());
}

// Each record's own gradient, as private training clips it, has a place for B only.
TEST_F(SeededA, GivesEachRecordAGradientOfBWhoseSumIsTheBatchs) {
  auto set = adapter::AdapterSet::make(config_of(3), run_.shapes(), sys::Stream(2), 1).value();
  set.reset(sys::Stream(1));
  set.prepare(run_.model.compute());
  model::Decoder decoder(run_.model, run_.workspace);
  (void)decoder.train(run_.batch, {.adapters = &set, .record_weights = run_.mean_weights()});
  const std::size_t values = set.trainable_count();
  const std::size_t records = run_.batch.records();
  std::vector<float> own(records * values, 777.0F);
  adapter::RecordGradients target{.data = own.data(), .stride = values, .offsets = {}};
  target.offsets = run_.batch.offsets;
  (void)decoder.train(
      run_.batch, {.adapters = &set, .record_weights = run_.mean_weights(), .records = &target});
  std::size_t at = 0;
  double largest = 0.0, off = 0.0;
  for (const auto& param : set.params()) {
    for (const float grad : param.grad) {
      double sum = 0.0;
      for (std::size_t r = 0; r < records; ++r) sum += double{own[r * values + at]};
      largest = std::max(largest, std::abs(double{grad}));
      off = std::max(off, std::abs(sum - double{grad}));
      ++at;
    }
  }
  EXPECT_EQ(at, values);
  EXPECT_GT(largest, 0.0);
  EXPECT_LT(off, 1e-5 * largest);
}

}  // namespace
}  // namespace strata::client

// Rounds that begin before the merge of the one before has come (overlapped merges): what each is
// trained on, and that nothing is told twice or lost.
#include <gtest/gtest.h>

#include "client/heads_fixture.h"
#include "coordinator/coordinator.h"
#include "evaluation/evaluator.h"

namespace strata::client {
namespace {

using coordinator::Coordinator;
using protocol::Restart;

constexpr std::uint32_t kRounds = 4;

std::vector<double> values_of(const model::Parameter& parameter) {
  std::vector<float> out(parameter.size());
  parameter.copy_values(out);
  return {out.begin(), out.end()};
}

class LateMergesTest : public HeadsFixture {
 protected:
  LocalTrainer trainer(const std::string& name, bool late, std::vector<text::Example> own = {},
                       std::int64_t heads = 2) {
    auto config = lte(heads);
    config.modules_to_save = {"all-other"};
    if (own.empty()) own = examples();
    const auto batch = static_cast<std::int64_t>(own.size());
    return LocalTrainer::make({.name = name,
                               .adapter = config,
                               .examples = std::move(own),
                               .weight = 1.0,
                               .late = late},
                              training(batch, 2), run_.model, kRounds)
        .value();
  }
  Coordinator coordinator(bool overlap, const std::vector<std::string>& clients) {
    auto out =
        Coordinator::make(
            {.method = "lte", .rounds = kRounds, .overlap = overlap, .measure = false}, run_.model)
            .value();
    std::vector<coordinator::PlannedUpdate> planned;
    planned.reserve(clients.size());
    for (const auto& name : clients)
      planned.push_back({.client = name, .ranks = {}, .heads = 1, .weight = 1.0});
    out.expect(planned);
    return out;
  }
  RoundResult round(LocalTrainer& trainer, const model::Model& base, const Sha256& chain,
                    std::uint32_t number) {
    EXPECT_TRUE(trainer.begin(Restart::kKeep, number, true, {}, base));
    auto t = tools();
    auto done = trainer.run_round(
        base, {.round = number, .rounds = kRounds, .base = chain, .restart = Restart::kKeep}, t);
    if (!done) throw std::runtime_error(done.error().line());
    return std::move(*done);
  }
};

// A client alone: what it carries on is all that the merge brings, so it is never behind.
TEST_F(LateMergesTest, AreNoDelayForAClientAlone) {
  auto in_time = coordinator(false, {"alone"}), late = coordinator(true, {"alone"});
  auto one = trainer("alone", false, {}, 1), other = trainer("alone", true, {}, 1);
  model::Model before = run_.model;
  for (std::uint32_t number = 1; number <= kRounds; ++number) {
    auto expected = round(one, in_time.model(), in_time.chain(), number);
    const model::Model base = late.model();
    auto got = round(other, before, late.trained_on(), number);
    before = base;
    EXPECT_NEAR(got.stats.first_loss, expected.stats.first_loss, 1e-5) << "round " << number;
    EXPECT_NEAR(got.stats.last_loss, expected.stats.last_loss, 1e-5) << "round " << number;
    ASSERT_EQ(got.update.delta.size(), expected.update.delta.size());
    for (const auto& [name, delta] : expected.update.delta)
      EXPECT_LT(distance(dense(got.update.delta.at(name)), dense(delta)), 2e-3)
          << name << ", round " << number;
    ASSERT_TRUE(in_time.accept(std::move(expected.update)));
    ASSERT_TRUE(late.accept(std::move(got.update)));
    ASSERT_TRUE(in_time.close());
    ASSERT_TRUE(late.close());
  }
  for (std::size_t i = 0; i < run_.model.parameters().size(); ++i) {
    const auto& a = late.model().parameters()[i];
    EXPECT_LT(distance(values_of(a), values_of(in_time.model().parameters()[i])), 1e-4) << a.name();
  }
}

// Of several, each begins round r + 1 with the model after round r - 1 and its own round r.
TEST_F(LateMergesTest, CarryOnTheOwnRoundThatTheBaseDoesNotHave) {
  auto all = examples();
  const std::vector<text::Example> half(all.begin(), all.begin() + 3),
      rest(all.begin() + 3, all.end());
  auto core = coordinator(true, {"one", "two"});
  std::vector<LocalTrainer> clients;
  clients.push_back(trainer("one", true, half, 1));
  clients.push_back(trainer("two", true, rest, 1));
  model::Model before = run_.model;
  std::map<std::string, adapter::DeltaTerms> own;  // of the round before
  for (std::uint32_t number = 1; number <= kRounds; ++number) {
    const model::Model base = core.model();
    std::vector<protocol::Update> updates;
    for (auto& client : clients) {
      // The model that the client should begin with, made dense.
      model::Model whole = before;
      for (const auto& [name, delta] : own[client.name()]) {
        auto values = whole.parameters()[whole.find(name)].master();
        const auto change = dense(delta);
        ASSERT_EQ(change.size(), values.size());
        const auto& parameter = whole.parameters()[whole.find(name)];
        for (std::size_t i = 0; i < values.size(); ++i) {
          const std::size_t at =
              parameter.transposed()
                  ? (i % parameter.cols()) * parameter.rows() + i / parameter.cols()
                  : i;
          values[i] += static_cast<float>(change[at]);
        }
        whole.parameters()[whole.find(name)].refresh();
      }
      const auto expected = evaluation::evaluate(whole, nullptr, client.examples(), {}).value();
      auto done = round(client, before, core.trained_on(), number);
      EXPECT_NEAR(done.stats.first_loss, expected.loss(), 2e-5)
          << client.name() << ", round " << number;
      if (number > 2) {
        const auto merged = evaluation::evaluate(base, nullptr, client.examples(), {}).value();
        EXPECT_GT(std::abs(done.stats.first_loss - merged.loss()), 1e-4) << "it is another model";
      }
      own[client.name()] = done.update.delta;
      updates.push_back(std::move(done.update));
    }
    before = base;
    for (auto& update : updates) ASSERT_TRUE(core.accept(std::move(update)));
    ASSERT_TRUE(core.close());
  }
}

TEST_F(LateMergesTest, AClientGoesOnFromItsStateWithTheSameBits) {
  auto core = coordinator(true, {"alone"});
  auto steady = trainer("alone", true);
  model::Model before = run_.model;
  Bytes state;
  for (std::uint32_t number = 1; number <= kRounds; ++number) {
    auto again = trainer("alone", true);
    ASSERT_TRUE(again.load(state, before));
    const auto expected = round(steady, before, core.trained_on(), number);
    auto got = round(again, before, core.trained_on(), number);
    EXPECT_EQ(protocol::encode(got.update, protocol::Encoding::kF32).bytes,
              protocol::encode(expected.update, protocol::Encoding::kF32).bytes)
        << "round " << number;
    state = again.save();
    EXPECT_EQ(state, steady.save());
    before = core.model();
    ASSERT_TRUE(core.accept(std::move(got.update)));
    ASSERT_TRUE(core.close());
  }
  // Of a client whose merges come in time.
  auto in_time = trainer("alone", false);
  const auto refused = in_time.load(state, before);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kDamaged);
}

TEST_F(LateMergesTest, AnUpdateOfTheWrongModelIsRefused) {
  auto core = coordinator(true, {"alone"});
  auto client = trainer("alone", true);
  ASSERT_TRUE(core.accept(round(client, run_.model, core.trained_on(), 1).update));
  ASSERT_TRUE(core.close());
  EXPECT_NE(core.trained_on(), core.chain());
  auto wrong = round(client, core.model(), core.chain(), 2);
  const auto refused = core.accept(std::move(wrong.update));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kIncompatibleUpdate);
}

}  // namespace
}  // namespace strata::client

// Heads whose A stays as it was drawn: B alone is trained and told, as one difference.
#include <gtest/gtest.h>

#include "client/heads_fixture.h"
#include "model/fold.h"

namespace strata::client {
namespace {

using adapter::AdapterSet;
using protocol::Restart;

class FrozenATest : public HeadsFixture {};

// A frozen: only B has gradients, and what a head tells has the A that it started with.
TEST_F(FrozenATest, WithAFrozenTrainBAlone) {
  auto config = lte(2);
  config.freeze_a = true;
  const auto start = factors(3, 9);
  auto frozen = trainer(config, training(2, 4), 1, start);
  auto t = tools();
  const auto done =
      frozen.run_round(run_.model, {.round = 1, .rounds = 1, .restart = Restart::kKeep}, t);
  ASSERT_TRUE(done) << done.error().line();
  for (const auto& [name, delta] : done->update.delta) {
    const auto& a = start.at(name.substr(0, name.rfind('.'))).a;
    ASSERT_FALSE(delta.terms.empty());
    for (const auto& term : delta.terms) {
      const auto& told = std::get<adapter::LowRank>(term).a;
      ASSERT_EQ(told.rows() % a.rows(), 0U);
      for (std::size_t i = 0; i < told.rows(); ++i) {
        for (std::size_t j = 0; j < told.cols(); ++j)
          ASSERT_EQ(told(i, j), a(i % a.rows(), j)) << name;
      }
    }
    EXPECT_GT(norm(dense(delta)), 0.0) << name;
  }
  auto trainable = make_trainable(config, run_.model, sys::Stream(2), sys::Stream(3)).value();
  for (const auto& param : trainable->params())
    EXPECT_EQ(param.role, adapter::ParamRole::kFactorB) << param.name;
}

// Kept factors over one A differ in B alone: half of what a pair and the one before it would be.
// The A has a name, the same in all rounds, unless it is trained.
TEST_F(FrozenATest, WithAFrozenTellTheDifferenceOfBAsOneTerm) {
  auto config = lte(2);
  config.freeze_a = true;
  auto set = AdapterSet::make(config, run_.shapes(), sys::Stream(1)).value();
  ASSERT_TRUE(set.load(factors(3, 9)));
  std::map<std::string, std::uint64_t> names;
  for (const auto& [name, delta] : set.delta())
    names[name] = std::get<adapter::LowRank>(delta.terms.at(0)).lasting_a;
  const auto told = set.product();
  set.anchor();
  sys::Stream draws(12);
  for (auto& param : set.params()) {
    for (float& value : param.value) value += static_cast<float>(draws.uniform(-0.05, 0.05));
  }
  const auto now = set.product();
  for (const auto& change : {set.delta(), set.increment()}) {
    for (const auto& [name, delta] : change) {
      ASSERT_EQ(delta.terms.size(), 1U) << name;
      const auto& pair = std::get<adapter::LowRank>(delta.terms[0]);
      EXPECT_EQ(pair.a.rows(), 6U) << "two heads of rank 3";
      EXPECT_NE(pair.lasting_a, 0U);
      EXPECT_EQ(pair.lasting_a, names.at(name));
      auto wanted = dense(now.at(name));
      const auto before = dense(told.at(name));
      for (std::size_t i = 0; i < wanted.size(); ++i) wanted[i] -= before[i];
      EXPECT_GT(norm(wanted), 0.0);
      EXPECT_LT(distance(dense(delta), wanted), 1e-6) << name;
    }
  }
  // Training sees the same change: the base and s (B - B0) A.
  set.prepare(run_.model.compute());
  model::Model merged = run_.model;
  adapter::Packet packet;
  for (const auto& [name, delta] : set.delta()) {
    const auto& pair = std::get<adapter::LowRank>(delta.terms[0]);
    packet.tensors.emplace(
        name, adapter::PacketTensor{delta.d_out, delta.d_in, adapter::Stack{pair.b, pair.a}});
  }
  model::fold(merged, packet);
  const auto beside = model::Decoder(run_.model, run_.workspace).logits(run_.batch, &set);
  const auto inside = model::Decoder(merged, run_.workspace).logits(run_.batch, nullptr);
  for (std::size_t i = 0; i < inside.size(); ++i)
    ASSERT_NEAR(beside.values()[i], inside.values()[i], 2e-4);

  auto other = factors(3, 9);
  other.begin()->second.a(0, 0) += 1.0F;
  ASSERT_TRUE(set.load(other));
  std::size_t renamed = 0;
  for (const auto& [name, delta] : set.delta())
    renamed += std::get<adapter::LowRank>(delta.terms.at(0)).lasting_a != names.at(name) ? 1U : 0U;
  EXPECT_EQ(renamed, 1U);
  auto trained = AdapterSet::make(lte(2), run_.shapes(), sys::Stream(1)).value();
  ASSERT_TRUE(trained.load(factors(3, 9)));
  for (const auto& [name, delta] : trained.delta())
    EXPECT_EQ(std::get<adapter::LowRank>(delta.terms.at(0)).lasting_a, 0U) << name;
}

// What an encoding loses of B is carried on by this name: there is none where A is drawn anew.
TEST_F(FrozenATest, AFrozenALastsWhereFactorsAreKept) {
  auto t = tools();
  for (const auto policy : {Restart::kKeep, Restart::kFresh}) {
    auto config = lte(2);
    config.freeze_a = true;
    auto one = trainer(config, training(2, 1), 2);
    std::map<std::string, std::uint64_t> names;
    for (std::uint32_t round = 1; round <= 2; ++round) {
      ASSERT_TRUE(one.begin(policy, round, true, {}, run_.model));
      const auto done =
          one.run_round(run_.model, {.round = round, .rounds = 2, .restart = policy}, t);
      ASSERT_TRUE(done) << done.error().line();
      for (const auto& [name, delta] : done->update.delta) {
        const auto lasting = std::get<adapter::LowRank>(delta.terms.at(0)).lasting_a;
        EXPECT_EQ(lasting != 0, policy == Restart::kKeep) << name;
        EXPECT_EQ(names.try_emplace(name, lasting).first->second, lasting) << name;
      }
    }
  }
}

}  // namespace
}  // namespace strata::client

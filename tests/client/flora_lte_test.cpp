// Clients of different ranks with several heads each, which merge in their clients after every
// step, stacked by the coordinator: the job of configs/flora-lte.json in small, against the dense
// sum in double.
#include <gtest/gtest.h>

#include <cmath>

#include "client/heads_fixture.h"
#include "coordinator/coordinator.h"
#include "model/fold.h"

namespace strata::client {
namespace {

using protocol::Restart;

class FloraLte : public HeadsFixture {
 protected:
  struct Site {
    std::string name;
    std::int64_t rank, heads;
    double weight;
  };
  const std::vector<Site> sites_{{"a", 3, 1, 1.0}, {"b", 2, 2, 5.0}, {"c", 1, 3, 2.0}};

  LocalTrainer trainer(const Site& site, bool frozen) const {
    auto own = training(6, 4);
    own.merge_every = 1.0;
    auto adapter = lte(site.heads, site.rank);
    adapter.freeze_a = frozen;
    return LocalTrainer::make({.name = site.name,
                               .adapter = adapter,
                               .initial = {},
                               .examples = examples(),
                               .weight = site.weight},
                              own, run_.model, 2)
        .value();
  }
  static std::vector<double> values(const model::Parameter& parameter) {
    std::vector<float> out(parameter.size());
    parameter.copy_values(out);
    return {out.begin(), out.end()};
  }
};

// sum += share * B A
void add_product(std::vector<double>& sum, const adapter::LowRank& term, double share) {
  const std::size_t d_in = term.a.cols();
  for (std::size_t i = 0; i < term.b.rows(); ++i) {
    for (std::size_t r = 0; r < term.b.cols(); ++r) {
      for (std::size_t j = 0; j < d_in; ++j)
        sum[i * d_in + j] += share * double{term.b(i, r)} * double{term.a(r, j)};
    }
  }
}

TEST_F(FloraLte, StackingWhatHeadsCameToIsTheDenseSum) {
  double weights = 0.0;
  for (const auto& site : sites_) weights += site.weight;
  for (const auto& [restart, frozen] : {std::pair{Restart::kKeep, true},
                                        {Restart::kKeep, false},
                                        {Restart::kFresh, true},
                                        {Restart::kFresh, false}}) {
    const bool keeps = restart == Restart::kKeep;
    auto core =
        coordinator::Coordinator::make(
            {.method = "flora", .restart = keeps ? "keep" : "fresh", .rounds = 2, .measure = true},
            run_.model)
            .value();
    std::vector<LocalTrainer> trainers;
    for (const auto& site : sites_) trainers.push_back(trainer(site, frozen));
    std::map<std::string, std::vector<double>> change;
    for (std::uint32_t round = 1; round <= 2; ++round) {
      std::vector<protocol::Update> updates;
      for (auto& client : trainers) {
        auto t = tools();
        ASSERT_TRUE(client.begin(restart, round, true, {}, core.model()));
        auto done = client.run_round(
            core.model(),
            {.round = round, .rounds = 2, .base = core.trained_on(), .restart = restart}, t);
        ASSERT_TRUE(done) << done.error().line();
        updates.push_back(std::move(done->update));
      }
      for (std::size_t k = 0; k < updates.size(); ++k) {
        for (const auto& [name, delta] : updates[k].delta) {
          auto& sum = change[name];
          sum.resize(delta.d_out * delta.d_in);
          for (const auto& term : delta.terms)
            add_product(sum, std::get<adapter::LowRank>(term), sites_[k].weight / weights);
        }
        ASSERT_TRUE(core.accept(std::move(updates[k])));
      }
      const auto report = core.close();
      ASSERT_TRUE(report) << report.error().line();
      EXPECT_LT(report->exactness.relative_error, 1e-6);
    }
    EXPECT_EQ(change.size(), run_.shapes().size());
    for (const auto& [name, sum] : change) {
      const auto before = values(run_.model.parameters()[run_.model.find(name)]);
      const auto after = values(core.model().parameters()[core.model().find(name)]);
      double largest = 0.0, off = 0.0, moved = 0.0;
      for (std::size_t i = 0; i < sum.size(); ++i) {
        largest = std::max(largest, std::abs(before[i]));
        moved = std::max(moved, std::abs(sum[i]));
        off = std::max(off, std::abs(before[i] + sum[i] - after[i]));
      }
      EXPECT_LT(off, 1e-6 * largest) << name;
      EXPECT_GT(moved, 1e-3 * largest) << name << " has hardly changed";
    }
  }
}

// What a client tells of a round is what its heads did to the copy that they merged into: the loss
// of its fifth step is the same on that copy and on the base with the update of four folded in.
TEST_F(FloraLte, AnUpdateIsWhatTheHeadsMergesCameTo) {
  for (const bool frozen : {true, false}) {
    auto heads = lte(3, 2);
    heads.freeze_a = frozen;
    auto plan = training(6, 5);
    plan.merge_every = 1.0;
    const ClientSpec spec{
        .name = "a", .adapter = heads, .initial = {}, .examples = examples(), .weight = 1.0};
    auto five = LocalTrainer::make(spec, plan, run_.model, 1).value();
    plan.local_steps = 4;
    auto four = LocalTrainer::make(spec, plan, run_.model, 2).value();
    auto t = tools();
    const auto whole =
        five.run_round(run_.model, {.round = 1, .rounds = 1, .restart = Restart::kKeep}, t);
    const auto part =
        four.run_round(run_.model, {.round = 1, .rounds = 2, .restart = Restart::kKeep}, t);
    ASSERT_TRUE(whole && part);
    // The fifth step, on the model after four merges, from outside.
    model::Model base = run_.model;
    adapter::Packet packet;
    for (const auto& [name, delta] : part->update.delta) {
      std::vector<adapter::LowRank> pairs;
      for (const auto& term : delta.terms) pairs.push_back(std::get<adapter::LowRank>(term));
      auto sum = adapter::stacked(pairs);
      packet.tensors.emplace(
          name, adapter::PacketTensor{delta.d_out, delta.d_in,
                                      adapter::Stack{std::move(sum.b), std::move(sum.a)}});
    }
    model::fold(base, packet);
    ASSERT_TRUE(four.begin(Restart::kKeep, 2, true, {}, base));
    const auto last = four.run_round(base, {.round = 2, .rounds = 2, .restart = Restart::kKeep}, t);
    ASSERT_TRUE(last);
    EXPECT_NEAR(last->stats.first_loss, whole->stats.last_loss, 1e-6 * whole->stats.last_loss);
  }
}

}  // namespace
}  // namespace strata::client

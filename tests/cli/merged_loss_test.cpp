// The gradient of the merged loss beside what a round of heads merges, against sums over every
// weight and against the loss itself.
#include "cli/merged_loss.h"

#include <gtest/gtest.h>

#include "client/heads_fixture.h"
#include "coordinator/coordinator.h"
#include "evaluation/evaluator.h"
#include "model/fold.h"

namespace strata::cli {
namespace {

using client::dense;
using client::LocalTrainer;
using coordinator::Coordinator;
using protocol::Restart;

// anna has two heads, berta one and other records; berta's update weighs half of anna's.
class MergedLossTest : public client::HeadsFixture {
 protected:
  MergedLossTest() {
    job_.training = training(2, 3);
    job_.training.pass_tokens = 16;  // several passes
    job_.aggregation.diagnostics = true;
    job_.clients.resize(2);
    auto others = examples();
    std::rotate(others.begin(), others.begin() + 3, others.end());
    for (const bool first : {true, false}) {
      trainers_.push_back(LocalTrainer::make({.name = first ? "anna" : "berta",
                                              .adapter = client::lte(first ? 2 : 1),
                                              .examples = first ? examples() : others,
                                              .weight = first ? 2.0 : 1.0},
                                             job_.training, run_.model, 3)
                              .value());
    }
  }

  coordinator::LossOfMerged loss() const {
    return loss_of_merged(job_, trainers_, held_out_, 2, [this] { return stopped_; });
  }
  Coordinator coordinator() const {
    auto out = Coordinator::make({.method = "lte", .rounds = 3}, run_.model).value();
    std::vector<coordinator::PlannedUpdate> planned;
    for (const auto& trainer : trainers_) {
      planned.push_back({.client = trainer.name(),
                         .ranks = trainer.ranks(),
                         .heads = static_cast<std::size_t>(trainer.adapter_config().heads),
                         .weight = trainer.name() == "anna" ? 2.0 : 1.0});
    }
    out.expect(planned);
    out.measure_descent(loss());
    return out;
  }
  coordinator::RoundReport round(Coordinator& all, std::size_t clients = 2) {
    auto t = tools();
    for (std::size_t k = 0; k < clients; ++k) {
      EXPECT_TRUE(trainers_[k].begin(Restart::kKeep, all.round(), true, {}, all.model()));
      auto done = trainers_[k].run_round(
          all.model(),
          {.round = all.round(), .rounds = 3, .base = all.chain(), .restart = Restart::kKeep}, t);
      EXPECT_TRUE(done) << done.error().line();
      EXPECT_TRUE(all.accept(std::move(done->update)));
    }
    return all.close().value();
  }
  /// What each record weighs in the merged loss: (examples, weight of each).
  struct Weighed {
    std::vector<text::Example> examples;
    std::vector<double> weights;
  };
  Weighed weighed() const {
    Weighed out;
    for (const auto& trainer : trainers_) {
      const bool anna = trainer.name() == "anna";
      const auto own = trainer.examples().first(2);
      const std::size_t both = own[0].trained_tokens() + own[1].trained_tokens();
      for (const auto& example : own) {
        out.examples.push_back(example);
        out.weights.push_back(anna ? 2.0 / 3.0 / 2.0 / static_cast<double>(example.trained_tokens())
                                   : 1.0 / 3.0 / static_cast<double>(both));
      }
    }
    return out;
  }
  static double loss_of(const model::Model& model, const Weighed& records) {
    const auto report = evaluation::evaluate(model, nullptr, records.examples, {}).value();
    double out = 0.0;
    for (std::size_t i = 0; i < records.weights.size(); ++i)
      out += records.weights[i] * report.records[i].loss_sum;
    return out;
  }

  Job job_;
  std::vector<LocalTrainer> trainers_;
  std::vector<text::Example> held_out_;
  bool stopped_ = false;
};

TEST_F(MergedLossTest, HasTheGradientOfTheClientsAndHeadsAsTheMergeWeighsThem) {
  auto all = coordinator();
  (void)round(all);
  const model::Model before = all.model();
  const auto report = round(all);
  ASSERT_TRUE(report.descent);
  EXPECT_EQ(report.descent->records_of, "clients");
  EXPECT_EQ(report.descent->records, 4U);
  const Weighed records = weighed();
  EXPECT_NEAR(report.descent->loss, loss_of(before, records), 1e-5);

  auto gradients = model::FullGradients::zeros(before);
  model::Decoder decoder(before, run_.workspace);
  for (std::size_t i = 0; i < records.examples.size(); ++i) {
    model::PackedBatch one;
    one.add(records.examples[i].tokens, records.examples[i].trained);
    const std::vector<float> weight{static_cast<float>(records.weights[i])};
    (void)decoder.train(one, {.full = &gradients, .record_weights = weight});
  }
  double cross = 0.0, gradient2 = 0.0, change2 = 0.0;
  for (const auto& [name, delta] : report.aggregate.packet.terms()) {
    const auto change = dense(delta);
    const auto& gradient = gradients.values[before.find(name)];
    ASSERT_EQ(change.size(), gradient.size());
    for (std::size_t i = 0; i < change.size(); ++i) {
      cross += change[i] * double{gradient[i]};
      gradient2 += double{gradient[i]} * double{gradient[i]};
      change2 += change[i] * change[i];
    }
  }
  const auto& whole = report.descent->whole;
  EXPECT_NEAR(whole.gradient_norm / std::sqrt(gradient2), 1.0, 1e-5);
  EXPECT_NEAR(whole.update_norm / std::sqrt(change2), 1.0, 1e-9);
  EXPECT_NEAR(whole.descent / -cross, 1.0, 1e-4);
  EXPECT_NEAR(whole.cosine, -cross / std::sqrt(gradient2 * change2), 1e-5);
  EXPECT_EQ(report.descent->tensors.size(), run_.model.linears().size());
}

// A little way along what is merged the merged loss falls as was said.
TEST_F(MergedLossTest, FallsAlongTheMergeAsItsGradientSays) {
  auto all = coordinator();
  const model::Model before = all.model();
  const auto report = round(all);
  const auto at = [&](float part) {
    model::Model out = before;
    adapter::Packet some = report.aggregate.packet;
    for (auto& [name, tensor] : some.tensors) {
      for (float& value : std::get<adapter::Stack>(tensor.change).b.values()) value *= part;
    }
    model::fold(out, some);
    return loss_of(out, weighed());
  };
  constexpr float kPart = 0.05F;
  const double slope = (at(kPart) - at(-kPart)) / (2.0 * double{kPart});
  EXPECT_LT(slope, -1e-2);
  EXPECT_NEAR(report.descent->whole.descent / -slope, 1.0, 5e-3);
}

// Shares are of those that came, of whose updates the merge takes less.
TEST_F(MergedLossTest, LeavesOutThoseThatDidNotCome) {
  auto all = coordinator();
  const auto report = round(all, 1);
  ASSERT_TRUE(report.descent);
  EXPECT_EQ(report.descent->records, 2U);
  Weighed anna = weighed();
  anna.examples.resize(2);
  anna.weights.resize(2);
  for (double& weight : anna.weights) weight *= 1.5;
  EXPECT_NEAR(report.descent->loss, loss_of(run_.model, anna), 1e-5);
}

TEST_F(MergedLossTest, IsOfHeldOutRecordsWhereClientsAreElsewhere) {
  std::vector<LocalTrainer> here;
  here.push_back(std::move(trainers_.back()));
  trainers_ = std::move(here);
  const coordinator::Weights shares{{"anna", 0.5}, {"berta", 0.5}};
  const std::vector<std::size_t> tensors{run_.model.linears()[0].weight};
  const coordinator::MergePoint at{
      .model = run_.model, .round = 1, .tensors = tensors, .shares = shares};
  EXPECT_FALSE(loss()(at).value()) << "no records at all";
  held_out_ = examples();
  const auto found = loss()(at).value();
  ASSERT_TRUE(found);
  EXPECT_EQ(found->records_of, "held_out");
  EXPECT_EQ(found->records, 4U) << "a step of two clients";
  const auto first = std::span<const text::Example>(held_out_).first(4);
  EXPECT_NEAR(found->loss, evaluation::evaluate(run_.model, nullptr, first, {}).value().loss(),
              1e-5);
  EXPECT_TRUE(found->gradients.wanted(tensors[0]));
  EXPECT_FALSE(found->gradients.wanted(run_.model.linears()[1].weight));

  job_.adapter.init = "an adapter beside the model";
  EXPECT_FALSE(loss()(at).value()) << "its factors are not in the model yet";
}

TEST_F(MergedLossTest, IsNotLookedAtUnaskedOrInPrivate) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_TRUE(loss());
  job_.aggregation.diagnostics = false;
  EXPECT_FALSE(loss());
  job_.aggregation.diagnostics = true;
  for (const char* mode : {"example_dpsgd", "client_local", "client_central"}) {
    job_.privacy.mode = mode;
    EXPECT_FALSE(loss()) << mode;
  }
  const auto hidden =
      LocalTrainer::make(
          {.name = "carla", .adapter = client::lte(1), .examples = examples(), .central = true},
          job_.training, run_.model, 3)
          .value();
  EXPECT_DEATH((void)hidden.first_step(), "private client");
}

TEST_F(MergedLossTest, StopsBetweenClients) {
  stopped_ = true;
  auto all = coordinator();
  auto t = tools();
  auto done = trainers_[0].run_round(
      all.model(), {.round = 1, .rounds = 3, .base = all.chain(), .restart = Restart::kKeep}, t);
  ASSERT_TRUE(all.accept(std::move(done->update)));
  const auto report = all.close();
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().code, ErrorCode::kInterrupted);
}

}  // namespace
}  // namespace strata::cli

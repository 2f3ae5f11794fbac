// Several heads on one client (LTE, Huh et al. 2024): each is what a client of its own would be,
// and they merge as clients do.
#include "client/heads.h"

#include <gtest/gtest.h>

#include "client/heads_fixture.h"
#include "client/training_step.h"
#include "model/fold.h"

namespace strata::client {
namespace {

using adapter::AdapterSet;
using protocol::Restart;

class HeadsTest : public HeadsFixture {};

TEST_F(HeadsTest, StartWithOrthogonalRowsAndNothingAdded) {
  auto set = AdapterSet::make(lte(2), run_.shapes(), sys::Stream(1)).value();
  set.reset(sys::Stream(4));
  std::vector<std::vector<float>> seen;
  for (const auto& param : set.params()) {
    if (param.role != adapter::ParamRole::kFactorA) {
      for (const float value : param.value) ASSERT_EQ(value, 0.0F);
      continue;
    }
    const std::size_t rank = 3, d_in = param.value.size() / rank;
    for (std::size_t i = 0; i < rank; ++i) {
      for (std::size_t j = 0; j <= i; ++j) {
        double product = 0.0;
        for (std::size_t k = 0; k < d_in; ++k)
          product += double{param.value[i * d_in + k]} * double{param.value[j * d_in + k]};
        EXPECT_NEAR(product, i == j ? static_cast<double>(d_in) / rank : 0.0, 1e-5 * d_in)
            << param.name;
      }
    }
    seen.emplace_back(param.value.begin(), param.value.end());
  }
  ASSERT_EQ(seen.size(), 2 * run_.shapes().size());
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(std::adjacent_find(seen.begin(), seen.end()), seen.end()) << "two heads start alike";
}

// The pass over everybody's rows gives each head the gradient that a pass over its own rows gives.
TEST_F(HeadsTest, LearnEachFromTheirOwnRowsAlone) {
  constexpr std::size_t kHeads = 3;
  auto together = AdapterSet::make(lte(kHeads), run_.shapes(), sys::Stream(1)).value();
  ASSERT_TRUE(together.load(factors(3, 9)));
  together.prepare(run_.model.compute());
  model::Decoder decoder(run_.model, run_.workspace);
  const auto weights = run_.mean_weights();
  const std::vector<std::uint32_t> rows(run_.batch.offsets.begin(), run_.batch.offsets.end());
  ASSERT_EQ(rows.size(), kHeads + 1) << "one record a head";
  const auto sums = decoder.train(
      run_.batch, {.adapters = &together, .record_weights = weights, .head_rows = rows});
  std::map<std::string, std::vector<float>> gradients;
  for (const auto& param : together.params())
    gradients[param.name] = {param.grad.begin(), param.grad.end()};

  for (std::size_t h = 0; h < kHeads; ++h) {
    auto alone = AdapterSet::make(lte(1), run_.shapes(), sys::Stream(1)).value();
    ASSERT_TRUE(alone.load(factors(3, 9)));
    alone.prepare(run_.model.compute());
    model::PackedBatch own;
    const auto& record = run_.golden.records()[h];
    own.add(record.tokens, record.trained);
    const std::vector<float> weight{weights[h]};
    const auto loss = decoder.train(own, {.adapters = &alone, .record_weights = weight});
    EXPECT_NEAR(loss.loss[0], sums.loss[h], 1e-5 * loss.loss[0]);
    for (const auto& param : alone.params()) {
      std::string name = param.name;
      name.insert(name.rfind('.'), ".heads." + std::to_string(h));
      const auto& found = gradients.at(name);
      double largest = 0.0, off = 0.0;
      for (std::size_t i = 0; i < found.size(); ++i) {
        largest = std::max(largest, std::abs(double{param.grad[i]}));
        off = std::max(off, std::abs(double{param.grad[i]} - double{found[i]}));
      }
      EXPECT_GT(largest, 0.0) << name;
      EXPECT_LT(off, 2e-5 * largest) << name;
    }
  }
}

TEST_F(HeadsTest, GiveARecordAGradientOfItsOwnHeadOnly) {
  constexpr std::size_t kHeads = 3;
  auto set = AdapterSet::make(lte(kHeads), run_.shapes(), sys::Stream(1)).value();
  ASSERT_TRUE(set.load(factors(3, 9)));
  set.prepare(run_.model.compute());
  model::Decoder decoder(run_.model, run_.workspace);
  const auto weights = run_.mean_weights();
  const std::vector<std::uint32_t> rows(run_.batch.offsets.begin(), run_.batch.offsets.end());
  (void)decoder.train(run_.batch, {.adapters = &set, .record_weights = weights, .head_rows = rows});
  const std::size_t values = set.trainable_count();
  std::vector<float> own(kHeads * values, 777.0F);
  adapter::RecordGradients target{.data = own.data(), .stride = values, .offsets = {}};
  target.offsets = run_.batch.offsets;
  (void)decoder.train(
      run_.batch,
      {.adapters = &set, .record_weights = weights, .records = &target, .head_rows = rows});
  std::size_t at = 0;
  for (const auto& param : set.params()) {
    for (const float grad : param.grad) {
      for (std::size_t r = 0; r < kHeads; ++r) {
        const float found = own[r * values + at];
        if (static_cast<int>(r) != param.head) {
          ASSERT_EQ(found, 0.0F) << param.name << " of record " << r;
        } else {
          ASSERT_NEAR(found, grad, 1e-6 + 1e-4 * std::abs(grad)) << param.name;
        }
      }
      ++at;
    }
  }
  EXPECT_EQ(at, values);
}

// What evaluation adds is the mean of the heads, as a merge would fold it in.
TEST_F(HeadsTest, TogetherAreTheirMean) {
  auto set = AdapterSet::make(lte(2), run_.shapes(), sys::Stream(1)).value();
  set.reset(sys::Stream(3));
  sys::Stream draws(8);
  for (auto& param : set.params()) {
    if (param.role != adapter::ParamRole::kFactorB) continue;
    for (float& value : param.value) value = static_cast<float>(draws.uniform(-0.05, 0.05));
  }
  set.prepare(run_.model.compute());
  model::Decoder decoder(run_.model, run_.workspace);
  const auto beside = decoder.logits(run_.batch, &set);
  model::Model merged = run_.model;
  adapter::Packet packet;
  for (const auto& [name, delta] : set.product()) {
    ASSERT_EQ(delta.terms.size(), 1U);
    const auto& pair = std::get<adapter::LowRank>(delta.terms.front());
    ASSERT_EQ(pair.a.rows(), 6U) << "two heads of rank 3";
    packet.tensors.emplace(
        name, adapter::PacketTensor{delta.d_out, delta.d_in, adapter::Stack{pair.b, pair.a}});
  }
  model::fold(merged, packet);
  const auto inside = model::Decoder(merged, run_.workspace).logits(run_.batch, nullptr);
  for (std::size_t i = 0; i < inside.size(); ++i)
    ASSERT_NEAR(beside.values()[i], inside.values()[i], 2e-4);
}

// One client with two heads that merge every two steps is two clients that merge every two steps.
TEST_F(HeadsTest, MergeInAClientAsClientsMerge) {
  for (const auto& [policy, frozen] : {std::pair{Restart::kKeep, false},
                                       {Restart::kFresh, false},
                                       {Restart::kKeep, true},
                                       {Restart::kFresh, true}}) {
    const bool fresh = policy == Restart::kFresh;
    auto two = lte(2);
    auto single = lte(1);
    two.freeze_a = single.freeze_a = frozen;
    const auto all = examples();
    auto training_inside = training(2, 6);
    training_inside.merge_every = 2.0;
    const auto start = fresh ? std::map<std::string, adapter::Factors>{} : factors(3, 9);
    auto inside =
        LocalTrainer::make(
            {.name = "both", .adapter = two, .initial = start, .examples = all, .weight = 1.0},
            training_inside, run_.model, 1)
            .value();
    auto t = tools();
    const auto done = inside.run_round(run_.model, {.round = 1, .rounds = 1, .restart = policy}, t);
    ASSERT_TRUE(done) << done.error().line();
    if (fresh) {
      // Three generations of factors of each head; nothing is lost and nothing told twice.
      for (const auto& [name, delta] : done->update.delta)
        EXPECT_EQ(std::get<adapter::LowRank>(delta.terms.at(0)).a.rows(), 3U * 2U * 3U);
      continue;  // other clients draw other factors
    }
    std::vector<LocalTrainer> apart;
    for (const std::size_t which : {0U, 1U}) {
      std::vector<text::Example> own;
      for (std::size_t i = which; i < all.size(); i += 2) own.push_back(all[i]);
      apart.push_back(LocalTrainer::make({.name = which == 0 ? "one" : "two",
                                          .adapter = single,
                                          .initial = start,
                                          .examples = own,
                                          .weight = 1.0},
                                         training(1, 2), run_.model, 3)
                          .value());
    }
    model::Model base = run_.model;
    for (std::uint32_t round = 1; round <= 3; ++round) {
      adapter::Packet packet;
      std::map<std::string, std::vector<adapter::LowRank>> pairs;
      for (auto& trainer : apart) {
        ASSERT_TRUE(trainer.begin(policy, round, true, {}, base));
        auto own = trainer.run_round(base, {.round = round, .rounds = 3, .restart = policy}, t);
        ASSERT_TRUE(own) << own.error().line();
        adapter::scale(own->update.delta, 0.5F);
        for (auto& [name, delta] : own->update.delta) {
          for (auto& term : delta.terms)
            pairs[name].push_back(std::get<adapter::LowRank>(std::move(term)));
        }
      }
      for (const auto& [name, of] : pairs) {
        auto sum = adapter::stacked(of);
        const std::size_t d_out = sum.b.rows(), d_in = sum.a.cols();
        packet.tensors.emplace(
            name,
            adapter::PacketTensor{d_out, d_in, adapter::Stack{std::move(sum.b), std::move(sum.a)}});
      }
      model::fold(base, packet);
    }
    for (const auto& [name, delta] : done->update.delta) {
      const auto& now = base.parameters()[base.find(name)];
      const auto& was = run_.model.parameters()[run_.model.find(name)];
      std::vector<float> after(now.size()), before(was.size());
      now.copy_values(after);
      was.copy_values(before);
      std::vector<double> change(after.size());
      for (std::size_t i = 0; i < after.size(); ++i)
        change[i] = double{after[i]} - double{before[i]};
      EXPECT_LT(distance(dense(delta), change), 1e-4) << name;
    }
  }
}

// One head, a merge after every step, new factors: the step of ReLoRA (Lialin et al. 2023) with T =
// 1,  W <- W + s B A  with B the first AdamW step from zero,  B = -eta g / (|g| + eps),  g = s dW
// A^T, and A drawn anew. The gradients here are those of the weights themselves.
TEST_F(HeadsTest, OneHeadMergedAfterEveryStepIsReLora) {
  const auto all = examples();
  auto config = training(1, 4);
  config.merge_every = 1.0;
  config.max_grad_norm = 0.0;
  auto trainer = LocalTrainer::make({.name = "alone", .adapter = lte(1), .examples = all}, config,
                                    run_.model, 1)
                     .value();
  auto t = tools();
  const auto done =
      trainer.run_round(run_.model, {.round = 1, .rounds = 1, .restart = Restart::kFresh}, t);
  ASSERT_TRUE(done) << done.error().line();

  constexpr std::size_t kRank = 3;
  constexpr double kScale = 2.0;  // alpha 6 / rank 3
  model::Model w = run_.model;
  std::size_t checked = 0;
  for (std::size_t step = 0; step < 4; ++step) {
    model::Decoder decoder(w, run_.workspace);
    auto full = model::FullGradients::zeros(w);
    model::PackedBatch batch;
    batch.add(all[step].tokens, all[step].trained);
    const std::vector<float> weight{1.0F / static_cast<float>(all[step].trained_tokens())};
    (void)decoder.train(batch, {.full = &full, .record_weights = weight});
    adapter::Packet packet;
    for (const auto& [name, delta] : done->update.delta) {
      const auto& told = std::get<adapter::LowRank>(delta.terms.at(0));  // s B side by side, A
      ASSERT_EQ(told.a.rows(), 4 * kRank);
      const auto& gradient = full.values[w.find(name)];
      adapter::Stack stack{tensor::Matrix(delta.d_out, kRank), tensor::Matrix(kRank, delta.d_in)};
      for (std::size_t j = 0; j < kRank; ++j) {
        // The last step's factors, which were not left behind, come first.
        const std::size_t row = (step + 1) % 4 * kRank + j;
        for (std::size_t i = 0; i < delta.d_in; ++i) stack.a(j, i) = told.a(row, i);
        for (std::size_t o = 0; o < delta.d_out; ++o) {
          double g = 0.0;
          for (std::size_t i = 0; i < delta.d_in; ++i)
            g += kScale * double{gradient[o * delta.d_in + i]} * double{told.a(row, i)};
          if (std::abs(g) < 1e-5) {  // of which the rounding decides
            stack.b(o, j) = told.b(o, row);
            continue;
          }
          const double b = -0.01 * g / (std::abs(g) + 1e-8);
          ASSERT_NEAR(told.b(o, row), kScale * b, 1e-3 * 0.02) << name << " step " << step;
          stack.b(o, j) = static_cast<float>(kScale * b);
          ++checked;
        }
      }
      packet.tensors.emplace(name,
                             adapter::PacketTensor{delta.d_out, delta.d_in, std::move(stack)});
    }
    model::fold(w, packet);
  }
  EXPECT_GT(checked, 1000U);
}

// With new factors after each merge the update tells those that were left behind, once, and with
// the share of a head: the copy that was trained on is the base and what is told.
TEST_F(HeadsTest, FreshFactorsAfterAMergeLoseNothing) {
  auto trainable =
      make_trainable(lte(2), run_.model, sys::Stream(2), sys::Stream(3), 1, Merging::kOwnCopy)
          .value();
  trainable->begin_round(run_.model);
  sys::Stream draws(11);
  tensor::Team team;
  for (int merge = 0; merge < 3; ++merge) {
    for (auto& param : trainable->params()) {
      for (float& value : param.value) value += static_cast<float>(draws.uniform(-0.02, 0.02));
    }
    trainable->merge(Restart::kFresh, sys::Stream(100 + static_cast<std::uint64_t>(merge)), team);
  }
  for (const auto& [name, delta] : trainable->delta()) {
    const auto& now = trainable->model().parameters()[trainable->model().find(name)];
    const auto& was = run_.model.parameters()[run_.model.find(name)];
    std::vector<float> after(now.size()), before(was.size());
    now.copy_values(after);
    was.copy_values(before);
    std::vector<double> change(after.size());
    for (std::size_t i = 0; i < after.size(); ++i) change[i] = double{after[i]} - double{before[i]};
    EXPECT_GT(norm(change), 0.0);
    EXPECT_LT(distance(dense(delta), change), 1e-5) << name;
  }
}

// Right after a merge every head works on the merged weights: what it adds to them is nothing.
TEST_F(HeadsTest, AddNothingToTheMergedWeightsRightAfterAMerge) {
  auto set = AdapterSet::make(lte(2), run_.shapes(), sys::Stream(1)).value();
  ASSERT_TRUE(set.load(factors(3, 9)));
  const auto before = set.delta();
  set.mark_merged();
  set.prepare(run_.model.compute());
  for (const auto& [name, increment] : set.increment()) {
    EXPECT_LT(norm(dense(increment)), 1e-12 * norm(dense(before.at(name)))) << name;
    EXPECT_LT(distance(dense(set.delta().at(name)), dense(before.at(name))), 1e-12) << name;
  }
  const std::vector<std::uint32_t> rows{0, run_.batch.offsets[1], run_.batch.offsets.back()};
  model::Decoder decoder(run_.model, run_.workspace);
  const auto weights = run_.mean_weights();
  const auto with =
      decoder.train(run_.batch, {.adapters = &set, .record_weights = weights, .head_rows = rows});
  const auto without = decoder.evaluate(run_.batch, nullptr);
  for (std::size_t r = 0; r < without.loss.size(); ++r)
    EXPECT_NEAR(with.loss[r], without.loss[r], 1e-5 * without.loss[r]);
  set.anchor();
  for (const auto& [name, delta] : set.delta()) {
    ASSERT_EQ(delta.terms.size(), 2U) << "both factors are trained";
    EXPECT_LT(norm(dense(delta)), 1e-12 * norm(dense(before.at(name)))) << name;
  }
}

// Batches are dealt out evenly, cut into passes anywhere, and the loss of one head does not weigh
// on another's.
TEST_F(HeadsTest, TakeTheSameStepHoweverTheBatchIsCutIntoPasses) {
  const auto all = examples();
  const std::vector<std::size_t> records{0, 1, 2, 3, 4, 5};
  std::vector<std::vector<float>> after;
  for (const std::int64_t pass_tokens : {1024, 20}) {
    auto config = training(6, 1);
    config.pass_tokens = pass_tokens;
    auto trainable = make_trainable(lte(3), run_.model, sys::Stream(2), sys::Stream(3)).value();
    ASSERT_TRUE(trainable->load(factors(3, 9)));
    trainable->begin_round(run_.model);
    model::Decoder decoder(run_.model, run_.workspace);
    StepMemory memory;
    auto optimizer = make_optimizer({.method = "sgd", .learning_rate = 1.0}).value();
    const auto report = training_step(decoder, memory, *trainable, *optimizer, all, records, config,
                                      1.0, sys::Stream(1));
    ASSERT_TRUE(report) << report.error().line();
    auto& values = after.emplace_back();
    for (const auto& param : trainable->params())
      values.insert(values.end(), param.value.begin(), param.value.end());
  }
  ASSERT_EQ(after[0].size(), after[1].size());
  for (std::size_t i = 0; i < after[0].size(); ++i) ASSERT_NEAR(after[0][i], after[1][i], 1e-5);
}

// A thousand clients of one process wait for their turn with what the next round needs and no more.
TEST_F(HeadsTest, AClientBetweenRoundsKeepsFactorsAndMomentsOnly) {
  auto anna = trainer(lte(2), training(2, 3), 3);
  const std::size_t before = anna.idle_bytes();
  std::size_t values = 0;
  for (const auto& [name, rank] : anna.ranks()) {
    const auto& p = run_.model.parameters()[run_.model.find(name)];
    values += rank * (p.d_out() + p.d_in());
  }
  auto t = tools();
  for (std::uint32_t round = 1; round <= 3; ++round) {
    ASSERT_TRUE(anna.begin(Restart::kKeep, round, true, {}, run_.model));
    ASSERT_TRUE(
        anna.run_round(run_.model, {.round = round, .rounds = 3, .restart = Restart::kKeep}, t));
    const std::size_t kept = anna.idle_bytes() - before;
    EXPECT_GE(kept, 3 * values * sizeof(float));
    EXPECT_LE(kept, 3 * values * sizeof(float) + 1000) << "an order of records, and bookkeeping";
  }
}

// Norms and embeddings beside the adapters: trained, told as they changed, averaged like the rest.
TEST_F(HeadsTest, ModulesToSaveAreTrainedThemselves) {
  auto config = lte(2);
  config.modules_to_save = {"all-other"};
  auto anna = trainer(config, training(2, 3), 2);
  auto t = tools();
  const auto done =
      anna.run_round(run_.model, {.round = 1, .rounds = 2, .restart = Restart::kKeep}, t);
  ASSERT_TRUE(done) << done.error().line();
  EXPECT_EQ(done->update.delta.size(), run_.model.parameters().size());
  for (const auto& parameter : run_.model.parameters()) {
    const auto& delta = done->update.delta.at(parameter.name());
    const bool adapted = std::any_of(
        run_.model.linears().begin(), run_.model.linears().end(), [&](const auto& site) {
          return run_.model.parameters()[site.weight].name() == parameter.name();
        });
    EXPECT_EQ(std::holds_alternative<adapter::Dense>(delta.terms.at(0)), !adapted);
    EXPECT_GT(norm(dense(delta)), 0.0) << parameter.name();
  }
  config.modules_to_save = {"q_proj"};
  const auto refused = LocalTrainer::make(
      {.name = "anna", .adapter = config, .examples = examples()}, training(2, 3), run_.model, 2);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kConfig);
  EXPECT_NE(refused.error().line().find("an adapter changes"), std::string::npos)
      << refused.error().line();
}

// The gradient of a tensor that is trained beside adapters is the one full training computes.
TEST_F(HeadsTest, ModulesToSaveHaveTheGradientOfFullTraining) {
  auto config = lte(1);
  config.modules_to_save = {"embed_tokens", "norm", ".*layernorm"};
  auto set = AdapterSet::make(config, run_.shapes(), sys::Stream(1)).value();
  set.reset(sys::Stream(1));  // adds nothing
  set.prepare(run_.model.compute());
  const auto saved = saved_parameters(config, run_.model, set).value();
  ASSERT_GE(saved.size(), 6U);
  auto some = model::FullGradients::zeros(run_.model, saved);
  auto every = model::FullGradients::zeros(run_.model);
  model::Decoder decoder(run_.model, run_.workspace);
  const auto weights = run_.mean_weights();
  (void)decoder.train(run_.batch, {.adapters = &set, .full = &some, .record_weights = weights});
  (void)decoder.train(run_.batch, {.full = &every, .record_weights = weights});
  for (std::size_t i = 0; i < every.values.size(); ++i) {
    const bool wanted = std::find(saved.begin(), saved.end(), i) != saved.end();
    ASSERT_EQ(some.values[i].empty(), !wanted);
    for (std::size_t j = 0; wanted && j < every.values[i].size(); ++j) {
      ASSERT_NEAR(some.values[i][j], every.values[i][j], 1e-6 + 1e-4 * std::abs(every.values[i][j]))
          << run_.model.parameters()[i].name();
    }
  }
}

// Of the mean of the heads' losses a head's gradient is one part; what stands beside them has all
// of it.
TEST_F(HeadsTest, HaveTheGradientsOfTheirOwnLosses) {
  const auto trainable = make_trainable(lte(3), run_.model, sys::Stream(1), sys::Stream(1)).value();
  trainable->begin_round(run_.model);
  const Heads heads(*trainable, std::vector<std::size_t>{2, 2, 2});
  ASSERT_EQ(heads.count(), 3U);
  std::vector<float> value(2), first{1.0F, 2.0F}, last{0.5F, -1.0F}, beside{3.0F, 4.0F};
  const std::vector<adapter::ParamRef> params{
      {.name = "first", .value = value, .grad = first, .head = 0},
      {.name = "last", .value = value, .grad = last, .head = 2},
      {.name = "beside", .value = value, .grad = beside, .head = -1}};
  tensor::Team team(1);
  heads.scale(params, team);
  EXPECT_EQ(first, (std::vector<float>{3.0F, 6.0F}));
  EXPECT_EQ(last, (std::vector<float>{1.5F, -3.0F}));
  EXPECT_EQ(beside, (std::vector<float>{3.0F, 4.0F}));
}

// A restart forgets, keeps or thins out what the optimizer remembers of the factors that go.
TEST_F(HeadsTest, MomentsOfFactorsThatRestartAreResetKeptOrPruned) {
  std::map<std::string, std::vector<double>> updates;
  for (const std::string moments : {"reset", "keep", "prune"}) {
    auto config = training(2, 2);
    config.moments = moments;
    auto anna = trainer(lte(1), config, 3);
    auto t = tools();
    for (std::uint32_t round = 1; round <= 2; ++round) {
      ASSERT_TRUE(anna.begin(Restart::kFresh, round, true, {}, run_.model));
      if (round == 2) {  // the same when it was saved and loaded in between
        const Bytes state = anna.save();
        ASSERT_TRUE(anna.load(state, run_.model));
        ASSERT_TRUE(anna.begin(Restart::kFresh, round, true, {}, run_.model));
      }
      const auto done =
          anna.run_round(run_.model, {.round = round, .rounds = 3, .restart = Restart::kFresh}, t);
      ASSERT_TRUE(done) << done.error().line();
      if (round == 2) updates[moments] = dense(done->update.delta.begin()->second);
    }
  }
  EXPECT_GT(distance(updates["keep"], updates["reset"]), 1e-3);
  EXPECT_GT(distance(updates["prune"], updates["reset"]), 1e-3);
  EXPECT_GT(distance(updates["prune"], updates["keep"]), 1e-3);
}

}  // namespace
}  // namespace strata::client

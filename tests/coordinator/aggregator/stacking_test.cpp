#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>

#include "coordinator/aggregator/aggregator.h"
#include "support/updates.h"
#include "tensor/team.h"

namespace strata::coordinator {
namespace {

using adapter::Dense;
using adapter::LowRank;
using adapter::Stack;
using protocol::Update;
using support::random_matrix;
using support::random_pair;
using support::update_of;
using tensor::Matrix;
using testing::HasSubstr;

constexpr double kU32 = 0x1p-24;

std::unique_ptr<Aggregator> flora() { return (*find_aggregator("flora"))->make({}); }

Aggregate stacked(const std::vector<Update>& updates) {
  auto fold = flora();
  for (const auto& update : updates) {
    const auto taken = fold->accumulate(update);
    EXPECT_TRUE(taken) << taken.error().line();
  }
  auto out = std::move(*fold).report();
  EXPECT_TRUE(out) << out.error().line();
  return std::move(*out);
}

// Five clients of a layer that is narrower than the sum of their ranks, with unequal alphas and
// weights.
constexpr std::array<std::size_t, 5> kRanks{64, 32, 16, 8, 4};
constexpr std::array<double, 5> kAlphas{16.0, 64.0, 8.0, 1.0, 100.0};
constexpr std::array<double, 5> kWeights{3.0, 1.0, 0.5, 7.25, 2.0};
constexpr std::size_t kOut = 96, kIn = 80;

std::vector<Update> five_clients() {
  std::vector<Update> out;
  for (std::size_t k = 0; k < kRanks.size(); ++k) {
    const double scale = kAlphas[k] / static_cast<double>(kRanks[k]);
    out.push_back(update_of("client-" + std::to_string(k), kWeights[k], "w", kOut, kIn,
                            {random_pair(kOut, kIn, kRanks[k], static_cast<unsigned>(k), scale)}));
  }
  return out;
}

// Many clients: the packet holds the product beside an identity, on the narrower side.
TEST(Stacking, OfMoreRankThanTheLayerIsWrittenOutAtTheLayersRank) {
  for (const auto& [d_out, d_in] : {std::pair<std::size_t, std::size_t>{12, 5}, {5, 12}}) {
    std::vector<Update> updates;
    for (unsigned k = 0; k < 40; ++k) {
      updates.push_back(update_of("c" + std::to_string(k), 1.0 + k, "w", d_out, d_in,
                                  {random_pair(d_out, d_in, 2, k)}));
    }
    const auto out = stacked(updates);
    const auto& product = std::get<adapter::StackProduct>(out.packet.tensors.at("w").change).values;
    EXPECT_EQ(product.rows(), d_out);
    EXPECT_EQ(product.cols(), d_in);
    const auto exact = support::dense_mean(updates, "w");
    EXPECT_LT(support::relative_distance(support::dense(out.packet.tensors.at("w")), exact), 1e-7);
    std::reverse(updates.begin(), updates.end());
    EXPECT_EQ(hex(stacked(updates).packet.hash()), hex(out.packet.hash()));
  }
}

TEST(Stacking, OfTheLayersRankStaysAStack) {
  const auto out = stacked({update_of("a", 1.0, "w", 6, 9, {random_pair(6, 9, 4, 1)}),
                            update_of("b", 1.0, "w", 6, 9, {random_pair(6, 9, 2, 2)})});
  const auto& stack = std::get<Stack>(out.packet.tensors.at("w").change);
  EXPECT_EQ(stack.b(3, 1), random_pair(6, 9, 4, 1).b(3, 1));
}

TEST(Stacking, EqualsTheDenseMeanForUnequalRanksAlphasAndWeights) {
  const auto updates = five_clients();
  const auto out = stacked(updates);
  EXPECT_EQ(out.packet.max_rank(), kIn);  // the layer's own rank, not the stack's 124
  const auto merged = support::dense(out.packet.tensors.at("w"));

  // The mean of s_k B_k A_k from unscaled factors, and M = sum p s |B||A|: two roundings to float,
  // of s B and of p A, each lose at most u32 M.
  const double sum = std::accumulate(kWeights.begin(), kWeights.end(), 0.0);
  std::vector<double> exact(kOut * kIn, 0.0), size(kOut * kIn, 0.0);
  for (std::size_t k = 0; k < kRanks.size(); ++k) {
    const LowRank pair = random_pair(kOut, kIn, kRanks[k], static_cast<unsigned>(k));
    const double factor = kWeights[k] / sum * kAlphas[k] / static_cast<double>(kRanks[k]);
    for (std::size_t i = 0; i < kOut; ++i) {
      for (std::size_t j = 0; j < kRanks[k]; ++j) {
        for (std::size_t c = 0; c < kIn; ++c) {
          const double term =
              factor * static_cast<double>(pair.b(i, j)) * static_cast<double>(pair.a(j, c));
          exact[i * kIn + c] += term;
          size[i * kIn + c] += std::abs(term);
        }
      }
    }
  }
  for (std::size_t i = 0; i < exact.size(); ++i)
    ASSERT_LE(std::abs(merged[i] - exact[i]), 2.001 * kU32 * size[i]) << i;
  EXPECT_LT(support::relative_distance(merged, exact), 1e-6);
}

TEST(Stacking, FoldedIntoAWeightStaysWithinTheBound) {
  const auto updates = five_clients();
  const auto out = stacked(updates);
  const auto mean = support::dense_mean(updates, "w");
  std::vector<double> size;  // sum p |B||A|
  for (auto update : updates) {
    auto& pair = std::get<LowRank>(update.delta.at("w").terms[0]);
    for (float& value : pair.b.values()) value = std::abs(value);
    for (float& value : pair.a.values()) value = std::abs(value);
    adapter::add_dense(update.delta.at("w"), out.weights.at(update.client), size);
  }
  const Matrix w = random_matrix(kOut, kIn, 77);
  Matrix folded = w;
  adapter::merge(folded.values(), false, out.packet.tensors.at("w"));
  for (std::size_t i = 0; i < mean.size(); ++i) {
    const double exact = static_cast<double>(w.values()[i]) + mean[i];
    ASSERT_LE(std::abs(static_cast<double>(folded.values()[i]) - exact),
              1.001 * kU32 * (size[i] + std::abs(exact)))
        << i;
  }
}

TEST(Stacking, PutsTheWeightOnOneSideOnly) {
  const LowRank x = random_pair(5, 3, 2, 1), y = random_pair(5, 3, 1, 2);
  const auto out =
      stacked({update_of("x", 1.0, "w", 5, 3, {x}), update_of("y", 3.0, "w", 5, 3, {y})});
  const auto& stack = std::get<Stack>(out.packet.tensors.at("w").change);
  EXPECT_EQ(stack.b(4, 0), x.b(4, 0));
  EXPECT_EQ(stack.b(4, 2), y.b(4, 0));
  EXPECT_EQ(stack.a(1, 2), 0.25f * x.a(1, 2));
  EXPECT_EQ(stack.a(2, 2), 0.75f * y.a(0, 2));
}

TEST(Stacking, OneClientIsPassedOnBitForBit) {
  const LowRank pair = random_pair(5, 3, 2, 1);
  const auto out = stacked({update_of("x", 17.0, "w", 5, 3, {pair})});
  const auto& stack = std::get<Stack>(out.packet.tensors.at("w").change);
  EXPECT_TRUE(stack.a == pair.a && stack.b == pair.b);
}

TEST(Stacking, TakesRolesFromTypesWhereWidthsEqualTheRank) {
  const std::vector<Update> updates{update_of("x", 1.0, "w", 4, 4, {random_pair(4, 4, 4, 1)}),
                                    update_of("y", 2.0, "w", 4, 4, {random_pair(4, 4, 4, 2)})};
  EXPECT_LT(support::relative_distance(support::dense(stacked(updates).packet.tensors.at("w")),
                                       support::dense_mean(updates, "w")),
            1e-6);
}

TEST(Stacking, ArrivalOrderChangesNoBit) {
  const auto updates = five_clients();
  const Sha256 expected = stacked(updates).packet.hash();
  std::array<std::size_t, 5> order{0, 1, 2, 3, 4};
  do {
    std::vector<Update> arrived;
    arrived.reserve(order.size());
    for (const std::size_t k : order) arrived.push_back(updates[k]);
    ASSERT_EQ(hex(stacked(arrived).packet.hash()), hex(expected));
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST(Stacking, KeepsTheRankOfAFactorThatClientsShare) {
  const Matrix a = random_matrix(3, 7, 9);
  std::vector<Update> updates;
  for (unsigned k = 0; k < 4; ++k) {
    updates.push_back(update_of("c" + std::to_string(k), k + 1.0, "w", 11, 7,
                                {LowRank{.b = random_matrix(11, 3, k), .a = a, .id_a = 42}}));
  }
  const auto out = stacked(updates);
  EXPECT_EQ(out.packet.max_rank(), 3U);
  EXPECT_TRUE(std::get<Stack>(out.packet.tensors.at("w").change).a == a);
  EXPECT_LT(support::relative_distance(support::dense(out.packet.tensors.at("w")),
                                       support::dense_mean(updates, "w")),
            1e-6);
}

TEST(Stacking, StaysExactWhenAClientBreaksThePromiseOfASharedFactor) {
  std::vector<Update> updates;
  for (unsigned k = 0; k < 3; ++k) {
    LowRank pair = random_pair(11, 7, 3, k == 1 ? 50 : 60);
    pair.id_a = 42;
    updates.push_back(update_of("c" + std::to_string(k), k + 1.0, "w", 11, 7, {pair}));
  }
  const auto out = stacked(updates);
  EXPECT_EQ(out.packet.max_rank(), 6U);
  EXPECT_LT(support::relative_distance(support::dense(out.packet.tensors.at("w")),
                                       support::dense_mean(updates, "w")),
            1e-6);
}

// Clients of ranks 2, 3 and 4 whose A are the first rows of one, in each order of names.
class NestedRanks : public testing::Test {
 protected:
  static constexpr std::size_t kRows = 11, kCols = 7;
  static Update client(const std::string& name, std::size_t rank, double weight) {
    const Matrix tall = random_matrix(4, kCols, 9);
    LowRank pair{.b = random_matrix(kRows, rank, static_cast<unsigned>(rank)),
                 .a = Matrix(rank, kCols),
                 .id_a = 42,
                 .seeded_a = true};
    std::copy_n(tall.data(), pair.a.size(), pair.a.data());
    return update_of(name, weight, "w", kRows, kCols, {pair});
  }
};

TEST_F(NestedRanks, AddUpToOnePairOfTheLargestRank) {
  std::array<std::size_t, 3> ranks{2, 3, 4};
  do {
    std::vector<Update> updates;
    for (std::size_t k = 0; k < ranks.size(); ++k)
      updates.push_back(client("c" + std::to_string(k), ranks[k], 1.0 + static_cast<double>(k)));
    const auto out = stacked(updates);
    const auto& stack = std::get<Stack>(out.packet.tensors.at("w").change);
    ASSERT_EQ(stack.a.rows(), 4U);
    EXPECT_TRUE(stack.a == random_matrix(4, kCols, 9));
    // Each value of B is the sum in double over clients in order, rounded once.
    for (std::size_t i = 0; i < kRows; ++i) {
      for (std::size_t j = 0; j < 4; ++j) {
        double sum = 0.0;
        for (std::size_t k = 0; k < ranks.size(); ++k) {
          const auto& own = std::get<LowRank>(updates[k].delta.at("w").terms[0]);
          if (j < ranks[k]) sum += (1.0 + static_cast<double>(k)) / 6.0 * double{own.b(i, j)};
        }
        ASSERT_EQ(stack.b(i, j), static_cast<float>(sum)) << i << " " << j;
      }
    }
    EXPECT_LT(support::relative_distance(support::dense(out.packet.tensors.at("w")),
                                         support::dense_mean(updates, "w")),
              1e-7);
    std::reverse(updates.begin(), updates.end());
    EXPECT_EQ(hex(stacked(updates).packet.hash()), hex(out.packet.hash()));
  } while (std::next_permutation(ranks.begin(), ranks.end()));
}

TEST_F(NestedRanks, StandBesideTheFactorsOfOtherMethods) {
  const std::vector<Update> updates{
      client("a", 2, 1.0),
      update_of("b", 2.0, "w", kRows, kCols, {random_pair(kRows, kCols, 1, 5)}),
      client("c", 4, 3.0)};
  const auto out = stacked(updates);
  EXPECT_EQ(std::get<Stack>(out.packet.tensors.at("w").change).a.rows(), 5U);
  EXPECT_LT(support::relative_distance(support::dense(out.packet.tensors.at("w")),
                                       support::dense_mean(updates, "w")),
            1e-6);
  // A client of another sequence under the same name keeps a block of its own.
  auto broken = updates;
  std::get<LowRank>(broken[0].delta.at("w").terms[0]).a(1, 6) += 1.0F;
  const auto apart = stacked(broken);
  EXPECT_EQ(apart.packet.max_rank(), 7U);
  EXPECT_LT(support::relative_distance(support::dense(apart.packet.tensors.at("w")),
                                       support::dense_mean(broken, "w")),
            1e-6);
}

TEST(Stacking, IncrementsOfKeptFactorsTelescope) {
  // Two clients, three rounds: each round exports [B_t, -B_{t-1}] [A_t; A_{t-1}]; the sum of all
  // packets is the mean of the last products.
  std::vector<double> total(std::size_t{6} * 9, 0.0);
  std::array<LowRank, 2> previous;
  for (unsigned round = 0; round < 3; ++round) {
    std::vector<Update> updates;
    for (unsigned k = 0; k < 2; ++k) {
      const LowRank now = random_pair(6, 9, k + 2, 10 * round + k);
      std::vector<adapter::Term> terms{now};
      if (round > 0) {
        LowRank before = previous[k];
        for (float& value : before.b.values()) value = -value;
        terms.emplace_back(before);
      }
      previous[k] = now;
      updates.push_back(update_of("c" + std::to_string(k), k + 1.0, "w", 6, 9, terms));
    }
    const auto change = support::dense(stacked(updates).packet.tensors.at("w"));
    for (std::size_t i = 0; i < total.size(); ++i) total[i] += change[i];
  }
  const auto products = support::dense_mean({update_of("c0", 1.0, "w", 6, 9, {previous[0]}),
                                             update_of("c1", 2.0, "w", 6, 9, {previous[1]})},
                                            "w");
  EXPECT_LT(support::relative_distance(total, products), 1e-6);
}

TEST(Stacking, CountsAClientThatDoesNotAdaptALayerAsZeroThere) {
  std::vector<Update> updates{update_of("x", 1.0, "w", 5, 3, {random_pair(5, 3, 2, 1)}),
                              update_of("y", 3.0, "v", 3, 8, {random_pair(3, 8, 1, 2)})};
  const auto out = stacked(updates);
  for (const std::string name : {"w", "v"}) {
    EXPECT_LT(support::relative_distance(support::dense(out.packet.tensors.at(name)),
                                         support::dense_mean(updates, name)),
              1e-6);
  }
}

TEST(Stacking, AveragesDenseChangesAndMixesThemWithPairs) {
  const Dense x{random_matrix(5, 3, 1)}, y{random_matrix(5, 3, 2)};
  const std::vector<Update> full{update_of("x", 1.0, "w", 5, 3, {x}),
                                 update_of("y", 3.0, "w", 5, 3, {y})};
  const auto mean = stacked(full);
  const auto& values = std::get<Dense>(mean.packet.tensors.at("w").change).values;
  EXPECT_EQ(values(4, 1), static_cast<float>(0.25 * static_cast<double>(x.values(4, 1)) +
                                             0.75 * static_cast<double>(y.values(4, 1))));

  auto mixed = full;
  mixed.push_back(update_of("z", 4.0, "w", 5, 3, {random_pair(5, 3, 2, 3)}));
  EXPECT_LT(support::relative_distance(support::dense(stacked(mixed).packet.tensors.at("w")),
                                       support::dense_mean(mixed, "w")),
            1e-6);
}

TEST(Stacking, RefusesABadUpdateByNameAndGoesOnWithoutIt) {
  const auto good = five_clients();
  const Sha256 expected = stacked(good).packet.hash();
  Update nan = update_of("mallory", 1.0, "w", kOut, kIn, {random_pair(kOut, kIn, 2, 9)});
  std::get<LowRank>(nan.delta.at("w").terms[0]).b(0, 1) = std::numeric_limits<float>::infinity();
  Update turned = update_of("mallory", 1.0, "w", kIn, kOut, {random_pair(kIn, kOut, 2, 9)});
  Update weightless = update_of("mallory", 0.0, "w", kOut, kIn, {random_pair(kOut, kIn, 2, 9)});
  Update twice = update_of("client-3", 1.0, "w", kOut, kIn, {random_pair(kOut, kIn, 2, 9)});
  Update empty{.client = "mallory"};
  auto fold = flora();
  for (const auto& update : good) ASSERT_TRUE(fold->accumulate(update));
  for (const auto& bad : {nan, turned, weightless, twice, empty}) {
    const auto refused = fold->accumulate(bad);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kIncompatibleUpdate);
    EXPECT_THAT(refused.error().line(), HasSubstr(bad.client));
  }
  EXPECT_EQ(fold->accepted(), 5U);
  EXPECT_EQ(std::move(*fold).report()->packet.hash(), expected);
}

TEST(Stacking, WithoutUpdatesThereIsNoQuorum) {
  const auto nothing = std::move(*flora()).report();
  ASSERT_FALSE(nothing);
  EXPECT_EQ(nothing.error().code, ErrorCode::kQuorum);
}

TEST(Aggregators, AnUnknownNameIsAnsweredWithTheNearest) {
  const auto unknown = find_aggregator("flra");
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, ErrorCode::kConfig);
  EXPECT_THAT(unknown.error().line(), HasSubstr("flora"));
}

}  // namespace
}  // namespace strata::coordinator

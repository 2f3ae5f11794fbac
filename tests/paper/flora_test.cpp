// Claims of "FLoRA: Federated Fine-Tuning Large Language Models with Heterogeneous Low-Rank
// Adaptations" (Wang et al. 2024, arXiv 2409.05976), and where strata departs from the paper or its
// published code:
//   - the scale s_k is folded into B by each client, so clients with different alpha / r add up
//   exactly
//   - weights are normalised over the clients that took part
#include <gtest/gtest.h>

#include "coordinator/aggregator/aggregator.h"
#include "coordinator/aggregator/factor_mean.h"
#include "support/updates.h"

namespace strata::coordinator {
namespace {

using adapter::LowRank;
using adapter::Stack;
using protocol::Update;
using support::random_pair;
using support::update_of;

constexpr std::size_t kOut = 24, kIn = 15;

std::vector<Update> clients(const std::vector<std::size_t>& ranks) {
  std::vector<Update> out;
  for (unsigned k = 0; k < ranks.size(); ++k) {
    out.push_back(update_of("c" + std::to_string(k), 1.0 + k, "w", kOut, kIn,
                            {random_pair(kOut, kIn, ranks[k], k)}));
  }
  return out;
}

Aggregate aggregate(std::string_view method, const std::vector<Update>& updates) {
  auto fold = (*find_aggregator(method))->make({});
  for (const auto& update : updates) EXPECT_TRUE(fold->accumulate(update));
  return *std::move(*fold).report();
}

double stacking_error(const std::vector<Update>& updates) {
  return support::relative_distance(
      support::dense(aggregate("flora", updates).packet.tensors.at("w")),
      support::dense_mean(updates, "w"));
}

// Averaging the factors of clients leaves cross terms B_i A_j that no client trained.
TEST(FloraPaper, AveragingFactorsIsNotTheAverageOfUpdates) {
  const auto updates = clients({4, 4, 4});
  const auto averaged = support::dense(aggregate("fedavg", updates).mean_factors.at("w"));
  EXPECT_GT(support::relative_distance(averaged, support::dense_mean(updates, "w")), 0.3);
}

// Stacking gives the weighted sum of the updates without noise.
TEST(FloraPaper, StackingIsTheWeightedSumOfUpdates) {
  EXPECT_LT(stacking_error(clients({4, 4, 4})), 1e-7);
}

// Ranks may differ between clients; the stack has the sum of them.
TEST(FloraPaper, StackingTakesHeterogeneousRanksAsTheyAre) {
  const auto updates = clients({8, 4, 2, 1});
  EXPECT_LT(stacking_error(updates), 1e-7);
  EXPECT_EQ(aggregate("flora", updates).packet.max_rank(), 15U);
}

// Zero-padding, which makes averaging possible for unequal ranks, dilutes what few clients own.
TEST(FloraPaper, ZeroPaddingLosesMoreThanStacking) {
  const auto updates = clients({8, 4, 2, 1});
  const auto padded = support::dense(aggregate("zero_pad", updates).mean_factors.at("w"));
  EXPECT_GT(support::relative_distance(padded, support::dense_mean(updates, "w")), 0.3);
}

// Departs: the published code weights one factor only, yet a weight on both sides is an easy
// misreading (p^2). It would show here.
TEST(FloraPaper, WeightsEnterOnce) {
  const auto updates = clients({2, 3});
  auto twice = aggregate("flora", updates);
  auto& stack = std::get<Stack>(twice.packet.tensors.at("w").change);
  for (std::size_t i = 0; i < kOut; ++i) {
    for (std::size_t j = 0; j < 5; ++j)
      stack.b(i, j) *= static_cast<float>(j < 2 ? 1.0 / 3.0 : 2.0 / 3.0);
  }
  EXPECT_GT(support::relative_distance(support::dense(twice.packet.tensors.at("w")),
                                       support::dense_mean(updates, "w")),
            0.3);
  EXPECT_LT(stacking_error(updates), 1e-7);
}

// Departs: the scale of each client is inside its B. One scale for all, as in code that rebuilds
// alpha / r behind the stack, is wrong.
TEST(FloraPaper, EachClientsOwnScaleCounts) {
  std::vector<Update> updates;
  for (unsigned k = 0; k < 3; ++k) {
    const double scale = 4.0 / static_cast<double>(1U << k);
    updates.push_back(update_of("c" + std::to_string(k), 1.0, "w", kOut, kIn,
                                {random_pair(kOut, kIn, 1U << k, k, scale)}));
  }
  EXPECT_LT(stacking_error(updates), 1e-7);
  auto one_scale = updates;
  for (unsigned k = 0; k < 3; ++k) {
    one_scale[k].delta["w"].terms[0] = random_pair(kOut, kIn, 1U << k, k, 2.0);
  }
  EXPECT_GT(support::relative_distance(support::dense_mean(one_scale, "w"),
                                       support::dense_mean(updates, "w")),
            0.3);
}

// Clients restart from fresh factors on the merged base, since the rank of a kept stack would grow
// with every round.
TEST(FloraPaper, FoldingEachRoundKeepsTheSumOfRounds) {
  std::vector<float> base(kOut * kIn, 0.0f);
  std::vector<double> sum(kOut * kIn, 0.0);
  for (std::size_t round = 0; round < 3; ++round) {
    const auto updates = clients({2 + round, 3});
    const auto out = aggregate("flora", updates);
    EXPECT_EQ(out.packet.max_rank(), 5 + round);
    adapter::merge(base, false, out.packet.tensors.at("w"));
    const auto mean = support::dense_mean(updates, "w");
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += mean[i];
  }
  EXPECT_LT(support::relative_distance({base.begin(), base.end()}, sum), 2e-7);
}

}  // namespace
}  // namespace strata::coordinator

#include "coordinator/aggregator/exactness.h"

#include <gtest/gtest.h>

#include "support/updates.h"
#include "tensor/team.h"

namespace strata::coordinator {
namespace {

using adapter::Dense;
using protocol::Update;
using support::random_pair;
using support::update_of;

struct Round {
  std::vector<Update> updates;
  UpdateSet set;
  Aggregate aggregate;
};

// Two layers, the first with more rows than one block; ranks 5, 2 and 1.
Round round_by(std::string_view method, bool equal_ranks = false) {
  Round out;
  auto fold = (*find_aggregator(method))->make({});
  for (unsigned k = 0; k < 3; ++k) {
    const std::size_t rank = equal_ranks || k == 0 ? 5 : 3 - k;
    Update update =
        update_of("c" + std::to_string(k), k + 1.0, "w", 300, 20, {random_pair(300, 20, rank, k)});
    update.delta["v"] = {13, 40, {random_pair(13, 40, rank, k + 10)}};
    EXPECT_TRUE(fold->accumulate(update));
    EXPECT_TRUE(out.set.add(update));
    out.updates.push_back(std::move(update));
  }
  out.aggregate = std::move(*std::move(*fold).report());
  return out;
}

// Both layers behind one another.
std::vector<double> both(std::vector<double> v, const std::vector<double>& w) {
  v.insert(v.end(), w.begin(), w.end());
  return v;
}

TEST(Exactness, OfAStackIsRoundingAndNamesTheWorstTensor) {
  const Round round = round_by("flora");
  const Exactness out = measure_exactness(round.set, round.aggregate).value();
  const auto mean_v = support::dense_mean(round.updates, "v"),
             mean_w = support::dense_mean(round.updates, "w");
  const auto merged_v = support::dense(round.aggregate.packet.tensors.at("v"));
  const auto merged_w = support::dense(round.aggregate.packet.tensors.at("w"));
  const double error = support::relative_distance(both(merged_v, merged_w), both(mean_v, mean_w));
  EXPECT_GT(error, 1e-9);
  EXPECT_NEAR(out.relative_error / error, 1.0, 1e-5);
  EXPECT_LT(out.relative_error, 1e-7);
  const double of_v = support::relative_distance(merged_v, mean_v),
               of_w = support::relative_distance(merged_w, mean_w);
  EXPECT_EQ(out.worst_tensor, of_v > of_w ? "v" : "w");
  EXPECT_NEAR(out.worst_tensor_error / std::max(of_v, of_w), 1.0, 1e-5);
}

TEST(Exactness, SeesOneWrongValueInThePacket) {
  Round round = round_by("flora");
  std::get<adapter::Stack>(round.aggregate.packet.tensors.at("w").change).a(1, 3) += 0.5f;
  const auto merged = both(support::dense(round.aggregate.packet.tensors.at("v")),
                           support::dense(round.aggregate.packet.tensors.at("w")));
  const auto mean =
      both(support::dense_mean(round.updates, "v"), support::dense_mean(round.updates, "w"));
  const Exactness out = measure_exactness(round.set, round.aggregate).value();
  EXPECT_GT(out.relative_error, 1e-3);
  EXPECT_NEAR(out.relative_error / support::relative_distance(merged, mean), 1.0, 1e-10);
  EXPECT_EQ(out.worst_tensor, "w");
}

TEST(Exactness, ATensorLeftOutOfThePacketIsAWholeError) {
  Round round = round_by("flora");
  round.aggregate.packet.tensors.erase("v");
  const Exactness out = measure_exactness(round.set, round.aggregate).value();
  EXPECT_EQ(out.worst_tensor, "v");
  EXPECT_DOUBLE_EQ(out.worst_tensor_error, 1.0);
}

TEST(Exactness, TellsWhatAveragingWouldHaveLost) {
  const Round stacked = round_by("flora", true), averaged = round_by("fedavg", true);
  const auto mean =
      both(support::dense_mean(stacked.updates, "v"), support::dense_mean(stacked.updates, "w"));
  const auto average = both(support::dense(averaged.aggregate.mean_factors.at("v")),
                            support::dense(averaged.aggregate.mean_factors.at("w")));
  const double loss = support::relative_distance(average, mean);
  const Exactness of_stack = measure_exactness(stacked.set, stacked.aggregate).value();
  const Exactness of_average = measure_exactness(averaged.set, averaged.aggregate).value();
  EXPECT_NEAR(of_stack.factor_averaging_error, loss, 1e-9);
  EXPECT_NEAR(of_average.relative_error, loss, 1e-9);
  EXPECT_NEAR(of_average.factor_averaging_error, loss, 1e-9);
}

TEST(Exactness, PadsUnequalRanksForTheComparison) {
  const Round stacked = round_by("flora"), padded = round_by("zero_pad");
  const Exactness of_padded = measure_exactness(padded.set, padded.aggregate).value();
  EXPECT_NEAR(measure_exactness(stacked.set, stacked.aggregate).value().factor_averaging_error,
              of_padded.relative_error, 1e-9);
  EXPECT_GT(of_padded.relative_error, 0.1);
}

TEST(Exactness, OfFullParametersHasNoFactorsToAverage) {
  UpdateSet set;
  auto fold = (*find_aggregator("fedavg"))->make({});
  for (unsigned k = 0; k < 2; ++k) {
    const Update update = update_of("c" + std::to_string(k), 1.0 + k, "w", 9, 4,
                                    {Dense{support::random_matrix(9, 4, k)}});
    ASSERT_TRUE(set.add(update));
    ASSERT_TRUE(fold->accumulate(update));
  }
  const Exactness out = measure_exactness(set, *std::move(*fold).report()).value();
  EXPECT_TRUE(std::isnan(out.factor_averaging_error));
  EXPECT_LT(out.relative_error, 1e-7);
}

TEST(Exactness, HasTheSameBitsForAnyThreadCount) {
  const Round round = round_by("flora");
  const Exactness one = measure_exactness(round.set, round.aggregate).value();
  tensor::Team team(4);
  const Exactness four = measure_exactness(round.set, round.aggregate, &team).value();
  EXPECT_EQ(one.relative_error, four.relative_error);
  EXPECT_EQ(one.factor_averaging_error, four.factor_averaging_error);
  EXPECT_EQ(one.update_norm, four.update_norm);
}

}  // namespace
}  // namespace strata::coordinator

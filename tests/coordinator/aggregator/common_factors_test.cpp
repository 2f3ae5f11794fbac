#include "coordinator/aggregator/common_factors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/updates.h"

namespace strata::coordinator {
namespace {

using adapter::Dense;
using adapter::LowRank;
using support::random_matrix;
using support::random_pair;
using support::update_of;
using tensor::Matrix;

constexpr std::size_t kOut = 5, kIn = 4, kRank = 3;

CommonTensor common_of(bool trains_a) {
  return {.d_out = kOut,
          .d_in = kIn,
          .b = random_matrix(kOut, kRank, 1),
          .a = random_matrix(kRank, kIn, 2),
          .trains_a = trains_a};
}

std::vector<float> change_of(const CommonFactors& common, LowRank pair) {
  std::vector<float> out(values_of(common), -1.0F);
  const auto update = keep_in_memory(update_of("anna", 1.0, "w", kOut, kIn, {std::move(pair)}));
  EXPECT_TRUE(read_change(common, *update, out));
  return out;
}

TEST(CommonFactors, AChangeIsTheDifferenceOfWhatIsTrained) {
  for (const bool trains_a : {false, true}) {
    const CommonFactors common{{"w", common_of(trains_a)}};
    const LowRank own = random_pair(kOut, kIn, kRank, 10);
    const auto change = change_of(common, own);
    ASSERT_EQ(change.size(), kOut * kRank + (trains_a ? kRank * kIn : 0));
    const auto& start = common.at("w");
    for (std::size_t i = 0; i < start.b.size(); ++i)
      EXPECT_FLOAT_EQ(change[i], own.b.data()[i] - start.b.data()[i]);
    for (std::size_t i = start.b.size(); i < change.size(); ++i) {
      const std::size_t at = i - start.b.size();
      EXPECT_FLOAT_EQ(change[i], own.a.data()[at] - start.a.data()[at]);
    }
  }
}

// What a client says of A is not looked at where A is everybody's.
TEST(CommonFactors, ASharedFactorIsThePlansWhateverAClientSends) {
  const CommonFactors common{{"w", common_of(false)}};
  LowRank own = random_pair(kOut, kIn, kRank, 10);
  const auto change = change_of(common, own);
  for (float& value : own.a.values()) value = 1e9F;
  EXPECT_EQ(change_of(common, own), change);
  const auto merged = apply_change(common, change, false);
  const auto& stack = std::get<adapter::Stack>(merged.packet.tensors.at("w").change);
  EXPECT_EQ(stack.a, common.at("w").a);
  for (std::size_t i = 0; i < stack.b.size(); ++i)
    EXPECT_NEAR(stack.b.data()[i], own.b.data()[i], 1e-6);
}

TEST(CommonFactors, ASmallerRankChangesTheFirstColumnsAndRows) {
  const CommonFactors common{{"w", common_of(true)}};
  const LowRank own = random_pair(kOut, kIn, 1, 10);
  const auto change = change_of(common, own);
  const auto& start = common.at("w");
  for (std::size_t i = 0; i < kOut; ++i) {
    EXPECT_FLOAT_EQ(change[i * kRank], own.b(i, 0) - start.b(i, 0));
    for (std::size_t j = 1; j < kRank; ++j) EXPECT_EQ(change[i * kRank + j], 0.0F);
  }
  for (std::size_t i = 0; i < kRank * kIn; ++i) {
    const float expected = i < kIn ? own.a.data()[i] - start.a.data()[i] : 0.0F;
    EXPECT_FLOAT_EQ(change[kOut * kRank + i], expected);
  }
}

TEST(CommonFactors, AveragedFactorsStandBesideTheBase) {
  const CommonFactors common{{"w", common_of(true)}};
  const LowRank own = random_pair(kOut, kIn, kRank, 10);
  const auto merged = apply_change(common, change_of(common, own), true);
  EXPECT_TRUE(merged.packet.empty());
  EXPECT_TRUE(merged.weights.empty());
  const auto& mean = merged.mean_factors.at("w");
  for (std::size_t i = 0; i < own.b.size(); ++i)
    EXPECT_NEAR(mean.b.data()[i], own.b.data()[i], 1e-6);
  for (std::size_t i = 0; i < own.a.size(); ++i)
    EXPECT_NEAR(mean.a.data()[i], own.a.data()[i], 1e-6);
}

TEST(CommonFactors, WholeTensorsAndTensorsThatAClientLeavesAlone) {
  const CommonFactors common{{"v", {.d_out = 2, .d_in = 1}}, {"w", common_of(false)}};
  Matrix values(2, 1);
  values(0, 0) = 3.0F;
  values(1, 0) = -4.0F;
  const auto update = keep_in_memory(update_of("anna", 1.0, "v", 2, 1, {Dense{values}}));
  std::vector<float> change(values_of(common), -1.0F);
  ASSERT_TRUE(read_change(common, *update, change));
  EXPECT_EQ(change[0], 3.0F);
  EXPECT_EQ(change[1], -4.0F);
  for (std::size_t i = 2; i < change.size(); ++i) EXPECT_EQ(change[i], 0.0F);
  const auto merged = apply_change(common, change, false);
  EXPECT_EQ(std::get<Dense>(merged.packet.tensors.at("v").change).values, values);
}

TEST(CommonFactors, RefusesWhatDoesNotBeginWithThem) {
  const CommonFactors common{{"w", common_of(true)}};
  std::vector<float> change(values_of(common));
  const auto code = [&](const protocol::Update& update) {
    const auto read = read_change(common, *keep_in_memory(update), change);
    return read ? ErrorCode::kInternal : read.error().code;
  };
  const auto refused = ErrorCode::kIncompatibleUpdate;
  EXPECT_EQ(code(update_of("a", 1, "w", kOut, kIn, {random_pair(kOut, kIn, kRank + 1, 1)})),
            refused);
  EXPECT_EQ(code(update_of("a", 1, "x", kOut, kIn, {random_pair(kOut, kIn, kRank, 1)})), refused);
  EXPECT_EQ(code(update_of("a", 1, "w", kOut, kIn, {Dense{Matrix(kOut, kIn)}})), refused);
  EXPECT_EQ(code(update_of("a", 1, "w", kOut, kIn,
                           {random_pair(kOut, kIn, 1, 1), random_pair(kOut, kIn, 1, 2)})),
            refused);
}

}  // namespace
}  // namespace strata::coordinator

#include "adapter/delta_terms.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace strata::adapter {
namespace {

using tensor::Matrix;
using testing::ElementsAre;
using testing::HasSubstr;

// 2 x 3, rank 1, plus a dense change.
TensorDelta small_delta() {
  TensorDelta delta{2, 3, {}};
  delta.terms.emplace_back(
      LowRank{.b = Matrix(2, 1, {1.0f, 2.0f}), .a = Matrix(1, 3, {1.0f, 10.0f, 100.0f})});
  delta.terms.emplace_back(Dense{Matrix(2, 3, {0.5f, 0.0f, 0.0f, 0.0f, 0.0f, 0.25f})});
  return delta;
}

TEST(DeltaTerms, AddDenseSumsAllTermsOfANonSquareLayer) {
  std::vector<double> out;
  add_dense(small_delta(), 2.0, out);
  EXPECT_THAT(out, ElementsAre(3.0, 20.0, 200.0, 4.0, 40.0, 400.5));
}

TEST(DeltaTerms, ScaleReachesEachTermOnce) {
  DeltaTerms delta{{"w", small_delta()}};
  scale(delta, -2.0f);
  std::vector<double> out;
  add_dense(delta.at("w"), 1.0, out);
  EXPECT_THAT(out, ElementsAre(-3.0, -20.0, -200.0, -4.0, -40.0, -400.5));
}

TEST(DeltaTerms, AddKeepsBothSumsAndRefusesOtherShapes) {
  DeltaTerms sum{{"w", small_delta()}};
  ASSERT_TRUE(add(sum, {{"w", small_delta()}, {"v", small_delta()}}));
  std::vector<double> out;
  add_dense(sum.at("w"), 0.5, out);
  EXPECT_THAT(out, ElementsAre(1.5, 10.0, 100.0, 2.0, 20.0, 200.25));
  EXPECT_EQ(sum.size(), 2U);
  const auto refused = add(sum, {{"w", TensorDelta{3, 2, {}}}});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kIncompatibleUpdate);
}

TEST(DeltaTerms, CountsRanksAndPayload) {
  EXPECT_EQ(small_delta().rank_bound(), 1U + 2U);
  EXPECT_EQ(small_delta().value_count(), 5U + 6U);
}

TEST(DeltaTerms, ValidateNamesTensorAndFault) {
  const auto refusal = [](TensorDelta delta) {
    const auto result = validate({{"layer.7.weight", std::move(delta)}});
    if (result) return std::string("accepted");
    EXPECT_EQ(result.error().code, ErrorCode::kIncompatibleUpdate);
    return result.error().line();
  };
  EXPECT_EQ(refusal(small_delta()), "accepted");

  TensorDelta nan = small_delta();
  std::get<LowRank>(nan.terms[0]).a(0, 2) = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(refusal(nan), testing::AllOf(HasSubstr("layer.7.weight"), HasSubstr("value 2")));

  TensorDelta infinite = small_delta();
  std::get<Dense>(infinite.terms[1]).values(1, 0) = std::numeric_limits<float>::infinity();
  EXPECT_THAT(refusal(infinite), HasSubstr("value 3"));

  TensorDelta transposed{3, 2, small_delta().terms};
  EXPECT_THAT(refusal(transposed), HasSubstr("1 x 3"));

  TensorDelta uneven{2, 3, {LowRank{.b = Matrix(2, 2), .a = Matrix(1, 3)}}};
  EXPECT_THAT(refusal(uneven), HasSubstr("2 x 2"));

  TensorDelta empty{2, 3, {LowRank{.b = Matrix(2, 0), .a = Matrix(0, 3)}}};
  EXPECT_THAT(refusal(empty), HasSubstr("rank 0"));
}

}  // namespace
}  // namespace strata::adapter

// The factors A that every party draws itself: the same for whoever asks by the same address, and
// nothing in common otherwise.
#include "adapter/seeded_factors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "adapter/adapter.h"

namespace strata::adapter {
namespace {

using tensor::Matrix;

constexpr const char* kTensor = "model.layers.0.mlp.down_proj.weight";

TEST(SeededFactors, OfASmallerRankAreTheFirstRowsOfALarger) {
  const SeededFactors factors(shared_stream(7), 3);
  const Matrix large = factors.a(kTensor, 16, 33);
  for (const std::size_t rank : {1U, 2U, 5U, 15U}) {
    const Matrix small = factors.a(kTensor, rank, 33);
    ASSERT_EQ(small.rows(), rank);
    ASSERT_EQ(small.cols(), 33U);
    EXPECT_TRUE(std::equal(small.data(), small.data() + small.size(), large.data()));
  }
}

TEST(SeededFactors, DifferByRoundTensorAndSeedInAlmostEveryValue) {
  const Matrix a = SeededFactors(shared_stream(7), 3).a(kTensor, 8, 40);
  std::set<std::uint64_t> ids{SeededFactors(shared_stream(7), 3).id(kTensor)};
  const auto expect_other = [&](const SeededFactors& factors, const char* tensor) {
    const Matrix b = factors.a(tensor, 8, 40);
    std::size_t equal = 0;
    for (std::size_t i = 0; i < a.size(); ++i) equal += a.data()[i] == b.data()[i] ? 1 : 0;
    EXPECT_LT(equal, 3U);
    EXPECT_TRUE(ids.insert(factors.id(tensor)).second);
  };
  expect_other(SeededFactors(shared_stream(7), 4), kTensor);
  expect_other(SeededFactors(shared_stream(8), 3), kTensor);
  expect_other(SeededFactors(shared_stream(7), 3), "model.layers.1.mlp.down_proj.weight");
}

TEST(SeededFactors, AreUniformBetweenTheBoundsOfFreshFactors) {
  constexpr std::size_t kIn = 64;
  const Matrix a = SeededFactors(shared_stream(1), 1).a(kTensor, 500, kIn);
  const double bound = 1.0 / std::sqrt(static_cast<double>(kIn));
  double sum = 0.0, squares = 0.0;
  float low = 0.0F, high = 0.0F;
  for (const float value : a.values()) {
    sum += value;
    squares += static_cast<double>(value) * value;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  const auto n = static_cast<double>(a.size());
  EXPECT_LE(high, bound);
  EXPECT_GE(low, -bound);
  EXPECT_GT(high - low, 1.99 * bound);
  EXPECT_NEAR(sum / n, 0.0, 4.0 * bound / std::sqrt(3.0 * n));
  EXPECT_NEAR(squares / n, bound * bound / 3.0, 0.02 * bound * bound);
}

// What the registry promises the coordinator is what the method's updates are.
TEST(AdapterMethods, SayWhetherTheirUpdatesLeaveAOut) {
  std::size_t seeded = 0;
  for (const auto& method : methods()) {
    const LinearShape shape{.module = "q_proj", .d_out = 6, .d_in = 5};
    const auto adapter = method.make(shape, {.rank = 2, .shared = shared_stream(3), .round = 2});
    adapter->reset(sys::Stream(9));
    const auto delta = adapter->delta();
    const auto& pair = std::get<LowRank>(delta.terms.front());
    EXPECT_EQ(pair.seeded_a, method.seeded) << method.name;
    EXPECT_EQ(delta.value_count(), method.seeded ? 12U : 22U) << method.name;
    seeded += method.seeded ? 1 : 0;
    if (!method.seeded) continue;
    const SeededFactors factors(shared_stream(3), 2);
    EXPECT_EQ(pair.id_a, factors.id("q_proj.weight"));
    EXPECT_TRUE(pair.a == factors.a("q_proj.weight", 2, 5));
    EXPECT_EQ(adapter->params().size(), 1U);
    EXPECT_EQ(adapter->params().front().role, ParamRole::kFactorB);
    EXPECT_FALSE(adapter->load({Matrix(6, 2), Matrix(2, 5)})) << "an A of its own";
    EXPECT_TRUE(adapter->load({Matrix(6, 2), pair.a}));
  }
  EXPECT_EQ(seeded, 1U);
}

}  // namespace
}  // namespace strata::adapter

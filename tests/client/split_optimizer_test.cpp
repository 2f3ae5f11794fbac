// What an optimizer remembers of factors that start afresh.
#include "client/split_optimizer.h"

#include <gtest/gtest.h>

#include <cmath>

namespace strata::client {
namespace {

// Of twenty moments the two largest stay, and keep their values; what is trained itself keeps all.
TEST(SplitOptimizer, PruningKeepsTheLargestTenthOfEachTensor) {
  auto optimizer = SplitOptimizer::make({}).value();
  std::vector<float> values(20, 1.0F), gradient(20);
  for (std::size_t i = 0; i < gradient.size(); ++i)
    gradient[i] = (i % 2 == 0 ? 1.0F : -1.0F) * static_cast<float>((i * 7) % 20 + 1);
  std::vector<float> own = values;
  tensor::Team team(1);
  const std::vector<adapter::ParamRef> params{
      {.name = "a", .role = adapter::ParamRole::kFactorA, .value = values, .grad = gradient},
      {.name = "norm", .role = adapter::ParamRole::kBase, .value = own, .grad = gradient}};
  optimizer->step(params, 0.01, team);
  const auto before = optimizer->state();
  optimizer->restart_factors(MomentsAfter::kPrune);
  const auto after = optimizer->state();
  ASSERT_EQ(after.size(), before.size());
  std::size_t pruned = 0;
  for (const auto& [name, now] : after) {
    const auto& old = before.at(name);
    if (now.size() != gradient.size() || name.starts_with("own:")) {
      EXPECT_EQ(now, old) << name;
      continue;
    }
    ++pruned;
    for (std::size_t i = 0; i < now.size(); ++i)
      EXPECT_EQ(now[i], std::abs(gradient[i]) > 18.5F ? old[i] : 0.0F) << name << " " << i;
  }
  EXPECT_EQ(pruned, 2U) << "the first and the second moment";

  optimizer->restart_factors(MomentsAfter::kReset);
  for (const auto& [name, now] : optimizer->state())
    EXPECT_TRUE(name.starts_with("own:")) << name << " of a factor is still known";
}

}  // namespace
}  // namespace strata::client

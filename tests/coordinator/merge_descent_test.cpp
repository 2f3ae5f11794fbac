// A merge beside a gradient, against sums over every weight; of both ways in which weights lie.
#include "coordinator/merge_descent.h"

#include <gtest/gtest.h>

#include <cmath>

#include "common/model/golden_run.h"
#include "support/updates.h"

namespace strata::coordinator {
namespace {

class MergeDescentTest : public testing::TestWithParam<const char*> {
 protected:
  // A gradient drawn at random by every linear layer.
  MergedLoss drawn_loss() const {
    std::vector<std::size_t> linears;
    for (const auto& site : run_.model.linears()) linears.push_back(site.weight);
    MergedLoss out{.records_of = "clients",
                   .records = 3,
                   .loss = 2.5,
                   .gradients = model::FullGradients::zeros(run_.model, linears)};
    sys::Stream draws(7);
    for (auto& values : out.gradients.values) {
      for (float& value : values) value = static_cast<float>(draws.uniform(-1.0, 1.0));
    }
    return out;
  }
  // A stack, the product of one, and one trained itself, which is no adapter's.
  adapter::Packet packet() const {
    adapter::Packet out;
    for (std::size_t i = 0; i < 3; ++i) {
      const auto& parameter = run_.model.parameters()[run_.model.linears()[i].weight];
      const auto pair = support::random_pair(parameter.d_out(), parameter.d_in(), 3,
                                             static_cast<unsigned>(10 + i));
      adapter::PacketTensor change{parameter.d_out(), parameter.d_in(),
                                   adapter::Stack{pair.b, pair.a}};
      tensor::Matrix values(parameter.d_out(), parameter.d_in());
      const auto whole = support::dense(change);
      std::copy(whole.begin(), whole.end(), values.data());
      if (i == 1) change.change = adapter::StackProduct{values};
      if (i == 2) change.change = adapter::Dense{values};
      out.tensors.emplace(parameter.name(), std::move(change));
    }
    return out;
  }

  model::GoldenRun run_{GetParam()};
  tensor::Team team_{2};
};

TEST_P(MergeDescentTest, IsThatOfSumsOverEveryWeight) {
  const auto loss = drawn_loss();
  const auto packet = this->packet();
  const auto found = merge_descent(run_.model, packet, loss, team_);
  EXPECT_EQ(found.records_of, "clients");
  EXPECT_EQ(found.records, 3U);
  EXPECT_EQ(found.loss, 2.5);
  EXPECT_EQ(found.tensors.size(), 2U);
  double cross = 0.0, gradient2 = 0.0, change2 = 0.0;
  for (const auto& [name, own] : found.tensors) {
    const std::size_t at = run_.model.find(name);
    const auto& parameter = run_.model.parameters()[at];
    const auto change = support::dense(packet.tensors.at(name));
    double product = 0.0, norm2 = 0.0;
    for (std::size_t i = 0; i < parameter.d_out(); ++i) {
      for (std::size_t j = 0; j < parameter.d_in(); ++j) {
        const std::size_t stored =
            parameter.transposed() ? j * parameter.d_out() + i : i * parameter.d_in() + j;
        const double g = double{loss.gradients.values[at][stored]};
        product += g * change[i * parameter.d_in() + j];
        norm2 += g * g;
        change2 += change[i * parameter.d_in() + j] * change[i * parameter.d_in() + j];
      }
    }
    EXPECT_NEAR(own.descent, -product, 1e-9) << name;
    EXPECT_NEAR(own.gradient_norm, std::sqrt(norm2), 1e-9) << name;
    cross += product;
    gradient2 += norm2;
  }
  EXPECT_NEAR(found.whole.descent, -cross, 1e-9);
  EXPECT_NEAR(found.whole.gradient_norm, std::sqrt(gradient2), 1e-9);
  EXPECT_NEAR(found.whole.update_norm, std::sqrt(change2), 1e-9);
  EXPECT_NEAR(found.whole.cosine, -cross / std::sqrt(gradient2 * change2), 1e-12);
}

TEST_P(MergeDescentTest, StraightDownIsOneAndNothingHasNoDirection) {
  auto loss = drawn_loss();
  auto packet = this->packet();
  for (auto& [name, tensor] : packet.tensors) {
    const auto change = support::dense(tensor);
    const std::size_t at = run_.model.find(name);
    const auto& parameter = run_.model.parameters()[at];
    for (std::size_t k = 0; k < change.size(); ++k) {
      const std::size_t i = k / parameter.d_in(), j = k % parameter.d_in();
      loss.gradients.values[at][parameter.transposed() ? j * parameter.d_out() + i : k] =
          static_cast<float>(-0.5 * change[k]);
    }
  }
  EXPECT_NEAR(merge_descent(run_.model, packet, loss, team_).whole.cosine, 1.0, 1e-9);
  for (auto& values : loss.gradients.values) std::fill(values.begin(), values.end(), 0.0F);
  const auto still = merge_descent(run_.model, packet, loss, team_);
  EXPECT_TRUE(std::isnan(still.whole.cosine));
  EXPECT_EQ(still.whole.descent, 0.0);
}

INSTANTIATE_TEST_SUITE_P(Layouts, MergeDescentTest, testing::Values("llama", "gpt2"));

}  // namespace
}  // namespace strata::coordinator

// What is told of heads and of what they merged, against matrices whose answer is known.
#include "coordinator/diagnostics.h"

#include <gtest/gtest.h>

#include <cmath>

#include "coordinator/golden_model.h"
#include "model/fold.h"
#include "support/updates.h"

namespace strata::coordinator {
namespace {

// Unit columns from `first` on, times unit rows from `first` on, each pair scaled.
adapter::LowRank units(std::size_t d_out, std::size_t d_in, std::size_t first,
                       const std::vector<float>& scales) {
  adapter::LowRank out{.b = tensor::Matrix(d_out, scales.size()),
                       .a = tensor::Matrix(scales.size(), d_in)};
  for (std::size_t k = 0; k < scales.size(); ++k) {
    out.b(first + k, k) = scales[k];
    out.a(k, first + k) = 1.0F;
  }
  return out;
}

class Diagnostics : public testing::Test {
 protected:
  Diagnostics()
      : d_out_(first_.parameters()[first_.find(kTensor)].d_out()),
        d_in_(first_.parameters()[first_.find(kTensor)].d_in()) {}

  UpdateSet updates(const std::vector<adapter::LowRank>& pairs) const {
    UpdateSet out;
    for (std::size_t k = 0; k < pairs.size(); ++k) {
      EXPECT_TRUE(out.add(
          support::update_of("c" + std::to_string(k), 1.0, kTensor, d_out_, d_in_, {pairs[k]})));
    }
    return out;
  }
  model::Model changed_by(const adapter::LowRank& pair) const {
    model::Model out = first_;
    adapter::Packet packet;
    packet.tensors.emplace(kTensor,
                           adapter::PacketTensor{d_out_, d_in_, adapter::Stack{pair.b, pair.a}});
    model::fold(out, packet);
    return out;
  }
  TensorDiagnostics of(const UpdateSet& set, const model::Model& now,
                       const std::map<std::string, std::size_t>& heads = {}) const {
    const auto all = diagnose(set, heads, first_, now, nullptr);
    EXPECT_TRUE(all);
    EXPECT_EQ(all->size(), 1U);
    return all->front();
  }

  model::Model first_ = golden_model();
  std::size_t d_out_, d_in_;
};

TEST_F(Diagnostics, EffectiveRankCountsEqualDirectionsAndWeighsOthers) {
  const auto set = updates({units(d_out_, d_in_, 0, {1.0F})});
  const auto equal = of(set, changed_by(units(d_out_, d_in_, 0, {0.5F, 0.5F, 0.5F})));
  EXPECT_NEAR(equal.effective_rank, 3.0, 1e-4);
  EXPECT_NEAR(equal.stable_rank, 3.0, 1e-4);
  EXPECT_NEAR(equal.change_norm, 0.5 * std::sqrt(3.0), 1e-6);
  const auto unequal = of(set, changed_by(units(d_out_, d_in_, 0, {3.0F, 1.0F})));
  const double q = 0.75;
  EXPECT_NEAR(unequal.effective_rank, std::exp(-q * std::log(q) - (1 - q) * std::log(1 - q)), 1e-4);
  EXPECT_NEAR(unequal.stable_rank, 10.0 / 9.0, 1e-4);
}

TEST_F(Diagnostics, HeadsAreAlikeWhenTheySpanTheSameAndNotWhenNothing) {
  const auto now = changed_by(units(d_out_, d_in_, 0, {1.0F}));
  const auto one = units(d_out_, d_in_, 0, {1.0F, 2.0F});
  auto turned = one;  // other factors of the same spaces
  turned.b(0, 0) = 1.0F, turned.b(0, 1) = 5.0F, turned.b(1, 0) = -2.0F, turned.b(1, 1) = 1.0F;
  const auto same = of(updates({one, turned}), now);
  EXPECT_NEAR(same.alignment_b, 1.0, 1e-9);
  EXPECT_NEAR(same.alignment_a, 1.0, 1e-9);
  const auto apart = of(updates({one, units(d_out_, d_in_, 2, {1.0F, 1.0F})}), now);
  EXPECT_NEAR(apart.alignment_b, 0.0, 1e-9);
  const auto half = of(updates({one, units(d_out_, d_in_, 1, {1.0F, 1.0F})}), now);
  EXPECT_NEAR(half.alignment_b, 0.5, 1e-9);
}

// The same heads in one client, side by side in one pair.
TEST_F(Diagnostics, HeadsOfOneClientAreToldApart) {
  const auto now = changed_by(units(d_out_, d_in_, 0, {1.0F}));
  const auto both = adapter::stacked(
      {units(d_out_, d_in_, 0, {1.0F, 2.0F}), units(d_out_, d_in_, 1, {1.0F, 1.0F})});
  EXPECT_NEAR(of(updates({both}), now, {{"c0", 2}}).alignment_b, 0.5, 1e-9);
  EXPECT_TRUE(std::isnan(of(updates({both}), now).alignment_b)) << "one head has nobody to be like";
}

// A head that has not moved spans nothing.
TEST_F(Diagnostics, FactorsThatAreZeroTakeNoPart) {
  const auto now = changed_by(units(d_out_, d_in_, 0, {1.0F}));
  const auto one = units(d_out_, d_in_, 0, {1.0F, 1.0F});
  EXPECT_TRUE(
      std::isnan(of(updates({one, units(d_out_, d_in_, 0, {0.0F, 0.0F})}), now).alignment_b));
}

}  // namespace
}  // namespace strata::coordinator

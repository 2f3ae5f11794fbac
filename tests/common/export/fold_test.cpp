#include "export/fold.h"

#include <gtest/gtest.h>

#include "support/golden.h"

namespace strata::exporting {
namespace {

class FoldAdapter : public testing::TestWithParam<std::string> {
 protected:
  [[nodiscard]] static model::Model load(const std::string& name) {
    auto model = model::Model::load(*sys::make_posix_disk(), support::Golden(name).folder(),
                                    tensor::DType::kF32);
    if (!model) throw std::runtime_error(model.error().line());
    return *std::move(model);
  }
  [[nodiscard]] static PeftAdapter adapter(const std::string& name) {
    auto adapter = read_peft(*sys::make_posix_disk(), support::Golden(name).adapter());
    if (!adapter) throw std::runtime_error(adapter.error().line());
    return *std::move(adapter);
  }
};

TEST_P(FoldAdapter, AddsTheProductToEveryAdaptedWeightAndNothingElse) {
  const auto before = load(GetParam());
  auto after = load(GetParam());
  const auto peft = adapter(GetParam());
  ASSERT_TRUE(fold_adapter(after, peft, "adapter"));
  const auto delta = delta_terms(peft);
  for (std::size_t i = 0; i < before.parameters().size(); ++i) {
    const auto& weight = before.parameters()[i];
    std::vector<float> values(weight.size());
    std::vector<float> folded(weight.size());
    weight.copy_values(values);
    after.parameters()[i].copy_values(folded);
    const auto change = delta.find(weight.name());
    if (change == delta.end()) {
      EXPECT_EQ(values, folded) << weight.name();
      continue;
    }
    std::vector<double> sum(weight.size(), 0.0);
    adapter::add_dense(change->second, 1.0, sum);
    for (std::size_t o = 0; o < weight.d_out(); ++o) {
      for (std::size_t j = 0; j < weight.d_in(); ++j) {
        const std::size_t at = weight.transposed() ? j * weight.d_out() + o : o * weight.d_in() + j;
        ASSERT_EQ(folded[at], static_cast<float>(values[at] + sum[o * weight.d_in() + j]))
            << weight.name();
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, FoldAdapter, testing::Values("llama", "llama_bf16", "gpt2"),
                         [](const auto& member) { return member.param; });

using FoldAdapterMisfit = FoldAdapter;

TEST_F(FoldAdapterMisfit, WithALayerThatDoesNotExistIsNamedAndChangesNothing) {
  auto model = load("llama");
  auto peft = adapter("llama");
  peft.modules["model.layers.9.self_attn.q_proj"] = peft.modules.begin()->second;
  const auto before = model.state_hash();
  const auto folded = fold_adapter(model, peft, "some/adapter");
  ASSERT_FALSE(folded);
  EXPECT_EQ(folded.error().code, ErrorCode::kFormat);
  EXPECT_NE(folded.error().line().find("some/adapter: model.layers.9.self_attn.q_proj"),
            std::string::npos);
  EXPECT_EQ(hex(model.state_hash()), hex(before));
}

TEST_F(FoldAdapterMisfit, WithAnotherShapeIsNamedWithBothShapes) {
  auto model = load("llama");
  auto peft = adapter("llama");
  auto& module = peft.modules.at("model.layers.0.mlp.up_proj");
  module.a = tensor::Matrix(4, 25);
  const auto folded = fold_adapter(model, peft, "some/adapter");
  ASSERT_FALSE(folded);
  EXPECT_NE(folded.error().line().find("40 x 25"), std::string::npos) << folded.error().line();
  EXPECT_NE(folded.error().line().find("40 x 24"), std::string::npos) << folded.error().line();
}

}  // namespace
}  // namespace strata::exporting

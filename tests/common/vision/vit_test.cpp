// Vision transformers against transformers and PEFT (tests/golden/vit.py).
#include <gtest/gtest.h>

#include "adapter/adapter_set.h"
#include "evaluation/evaluator.h"
#include "evaluation/pack.h"
#include "formats/safetensors.h"
#include "model/decoder.h"
#include "support/golden.h"
#include "vision/patches.h"

namespace strata::vision {
namespace {

using support::max_abs_diff;
using support::max_rel_diff;

constexpr std::size_t kImages = 4, kSide = 12, kChannels = 3;

struct Vit {
  std::unique_ptr<sys::Disk> disk = sys::make_posix_disk();
  std::filesystem::path folder = support::golden_folder() / "vit";
  formats::SafetensorsFile expected;
  model::Model model;
  model::Workspace workspace{2};
  std::vector<text::Example> examples;
  model::PackedBatch batch;

  explicit Vit(tensor::DType compute = tensor::DType::kF32)
      : expected(*formats::SafetensorsFile::open(*disk, folder / "expected.safetensors")),
        model(*model::Model::load(*disk, folder, compute)) {
    const auto pixels = expected.get("pixels")->bytes;
    const auto labels = expected.get("labels")->bytes;
    const auto& grid = *model.config().patches;
    for (std::size_t n = 0; n < kImages; ++n) {
      // Planes of the golden, pixels of an image.
      Image image{kSide, kSide, kChannels, {}};
      for (std::size_t at = 0; at < kSide * kSide; ++at) {
        for (std::size_t c = 0; c < kChannels; ++c)
          image.values.push_back(
              static_cast<std::uint8_t>(pixels[(n * kChannels + c) * kSide * kSide + at]));
      }
      std::int32_t label = 0;
      std::memcpy(&label, labels.data() + n * sizeof(label), sizeof(label));
      examples.push_back({.tokens = std::vector<text::TokenId>(grid.count() + 1, 0),
                          .trained = {},
                          .source = "image " + std::to_string(n),
                          .pixels = patches(image, grid),
                          .label = label});
    }
    for (const auto& example : examples) evaluation::pack(batch, example);
  }

  std::vector<float> values(const std::string& name) const {
    return *formats::to_float(*expected.get(name), name, "golden");
  }
  double number(const std::string& name) const {
    double out = 0.0;
    std::memcpy(&out, expected.get(name)->bytes.data(), sizeof(out));
    return out;
  }
  static std::vector<float> mean_weights() {
    return std::vector<float>(kImages, 1.0f / static_cast<float>(kImages));
  }
  /// The rows of the classes: the first of each image.
  std::vector<float> class_logits(const adapter::AdapterSet* adapters) {
    model::Decoder decoder(model, workspace);
    const auto all = decoder.logits(batch, adapters);
    std::vector<float> out;
    for (std::size_t n = 0; n < kImages; ++n) {
      const float* row = all.data() + batch.offsets[n] * all.cols();
      out.insert(out.end(), row, row + all.cols());
    }
    return out;
  }
};

TEST(VitGolden, LogitsAndLossEqualTransformers) {
  Vit vit;
  EXPECT_LT(max_abs_diff(vit.class_logits(nullptr), vit.values("logits")), 1e-4);
  const auto report = evaluation::evaluate(vit.model, nullptr, vit.examples, {});
  ASSERT_TRUE(report) << report.error().line();
  EXPECT_NEAR(report->loss(), vit.number("loss"), 1e-5);
  EXPECT_EQ(report->trained_tokens, kImages);
}

TEST(VitGolden, GradientsOfAllWeightsEqualTransformers) {
  for (const std::size_t block_rows : {std::size_t{256}, std::size_t{16}}) {
    Vit vit;
    model::Decoder decoder(vit.model, vit.workspace, {.block_rows = block_rows});
    auto full = model::FullGradients::zeros(vit.model);
    const auto weights = vit.mean_weights();
    (void)decoder.train(vit.batch, {.full = &full, .record_weights = weights});
    for (std::size_t i = 0; i < full.values.size(); ++i) {
      const std::string& name = vit.model.parameters()[i].name();
      // Attention does not see what is added to all keys: that gradient is a rounded zero.
      if (name.ends_with("key.bias")) {
        for (const float value : full.values[i]) EXPECT_NEAR(value, 0.0f, 1e-6f) << name;
        continue;
      }
      EXPECT_LT(max_rel_diff(full.values[i], vit.values("full.grad." + name)), 1e-4) << name;
    }
  }
}

TEST(VitGolden, AdaptersEqualPeft) {
  Vit vit;
  std::vector<adapter::LinearShape> shapes;
  std::map<std::string, adapter::Factors> factors;
  for (const auto& site : vit.model.linears()) {
    shapes.push_back({site.module, site.d_out, site.d_in});
    factors[site.module] = {tensor::Matrix(site.d_out, 3, vit.values("lora.b." + site.module)),
                            tensor::Matrix(3, site.d_in, vit.values("lora.a." + site.module))};
  }
  auto set = adapter::AdapterSet::make({.rank = 3, .alpha = 6.0}, shapes, sys::Stream(1));
  ASSERT_TRUE(set) << set.error().line();
  ASSERT_TRUE(set->load(factors));
  set->prepare(vit.model.compute());
  EXPECT_LT(max_abs_diff(vit.class_logits(&*set), vit.values("lora.logits")), 1e-4);
  model::Decoder decoder(vit.model, vit.workspace);
  const auto weights = vit.mean_weights();
  (void)decoder.train(vit.batch, {.adapters = &*set, .record_weights = weights});
  for (const auto& param : set->params())
    EXPECT_LT(max_rel_diff(param.grad, vit.values("lora.grad." + param.name)), 1e-4) << param.name;
}

TEST(VitGolden, ProductsInBf16StayNear) {
  Vit vit(tensor::DType::kBF16);
  EXPECT_LT(max_abs_diff(vit.class_logits(nullptr), vit.values("logits")), 0.1);
}

TEST(VitGolden, IsCreatedWithTheShapesOfItsFiles) {
  Vit vit;
  const auto json = vit.disk->read_text(vit.folder / "config.json");
  const auto made = model::Model::create(*json, "config.json", tensor::DType::kF32, sys::Stream(3));
  ASSERT_TRUE(made) << made.error().line();
  const auto file = formats::SafetensorsFile::open(*vit.disk, vit.folder / "model.safetensors");
  EXPECT_EQ(made->parameters().size(), file->names().size());
  for (const auto& parameter : made->parameters())
    EXPECT_EQ(parameter.shape(), file->get(parameter.name())->shape) << parameter.name();
}

TEST(ImagesAndText, EachHaveTheirModels) {
  Vit vit;
  const auto error_of = [&](const text::Example& example) {
    const auto checked = evaluation::check_examples(vit.model, std::span(&example, 1));
    return checked ? "" : checked.error().line();
  };
  EXPECT_EQ(error_of(vit.examples[0]), "");
  EXPECT_NE(
      error_of({.tokens = {1, 2}, .trained = {0, 1}, .source = "a.jsonl:1"}).find("is no image"),
      std::string::npos);
  auto other = vit.examples[0];
  other.label = 5;
  EXPECT_NE(error_of(other).find("classes 0 to 4"), std::string::npos);
  other = vit.examples[0];
  other.pixels.pop_back();
  EXPECT_NE(error_of(other).find("another size"), std::string::npos);
}

}  // namespace
}  // namespace strata::vision

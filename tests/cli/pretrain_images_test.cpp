// A vision transformer trained on images, from the command line.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "federation.h"

namespace strata::cli {
namespace {

using testing::HasSubstr;

// Images of 4 x 4, dark of class 0 and light of class 1.
void write_images(const fs::path& folder, const std::string& name, int count) {
  std::string images{0, 0, 8, 3, 0, 0, 0, static_cast<char>(count), 0, 0, 0, 4, 0, 0, 0, 4};
  std::string labels{0, 0, 8, 1, 0, 0, 0, static_cast<char>(count)};
  for (int i = 0; i < count; ++i) {
    labels.push_back(static_cast<char>(i % 2));
    for (int j = 0; j < 16; ++j)
      images.push_back(static_cast<char>((i % 2 == 0 ? 20 : 200) + (7 * i + 3 * j) % 40));
  }
  write_file(folder / (name + "-images-idx3-ubyte"), images);
  write_file(folder / (name + "-labels-idx1-ubyte"), labels);
}

TEST(PretrainOnImages, LearnsClassesAndWritesAModelThatIsReadAgain) {
  const ScratchFolder scratch;
  const fs::path model = scratch.path() / "model", out = scratch.path() / "run";
  fs::create_directories(model);
  const json config{{"model_type", "vit"},
                    {"image_size", 4},
                    {"patch_size", 2},
                    {"num_channels", 1},
                    {"hidden_size", 16},
                    {"intermediate_size", 32},
                    {"num_hidden_layers", 1},
                    {"num_attention_heads", 2},
                    {"hidden_dropout_prob", 0.0},
                    {"attention_probs_dropout_prob", 0.0},
                    {"id2label", {{"0", "dark"}, {"1", "light"}}}};
  write_file(model / "config.json", config.dump());
  write_images(scratch.path(), "train", 64);
  write_images(scratch.path(), "test", 20);
  const fs::path data = scratch.path() / "train-images-idx3-ubyte";
  const fs::path held = scratch.path() / "test-images-idx3-ubyte";
  const std::vector<std::string> common{
      "pretrain", "--model",  model,  "--data",          data,  "--held-out",   held, "--steps",
      "40",       "--warmup", "4",    "--evaluations",   "1",   "--batch-size", "8",  "-o",
      out,        "--format", "json", "--learning-rate", "0.01"};
  for (const std::vector<std::string>& more :
       {std::vector<std::string>{},
        {"--method", "lte", "--heads", "2", "--rank", "4", "--merge-every", "4"},
        {"--method", "lte", "--heads", "4", "--clients", "2", "--rank", "4", "--merge-every", "4"},
        {"--method", "data-parallel", "--clients", "2"}}) {
    fs::remove_all(out);
    auto args = common;
    args.insert(args.end(), more.begin(), more.end());
    const Finished done = strata(args);
    ASSERT_EQ(done.status, 0) << done.err;
    const json evaluations = json::parse(done.out).at("data").at("evaluations");
    EXPECT_TRUE(evaluations.back().at("perplexity").is_null());
    EXPECT_GT(evaluations.back().at("accuracy").get<double>(), 0.9) << args.back();

    const Finished again =
        strata({"eval", "--model", out / "model", "--data", held, "--format", "json"});
    ASSERT_EQ(again.status, 0) << again.err;
    EXPECT_NEAR(json::parse(again.out).at("data").at("loss").get<double>(),
                evaluations.back().at("loss").get<double>(), 0.05)
        << "saved as bf16";
  }

  const Finished text = strata({"generate", "--model", out / "model", "--prompt", "hello"});
  EXPECT_NE(text.status, 0);
  EXPECT_THAT(text.err, HasSubstr("tokenizer"));
  write_file(scratch.path() / "text.jsonl", R"({"text": "no image"})");
  const Finished wrong =
      strata({"eval", "--model", out / "model", "--data", scratch.path() / "text.jsonl"});
  EXPECT_THAT(wrong.err, HasSubstr("neither an IDX file nor a folder"));
}

}  // namespace
}  // namespace strata::cli

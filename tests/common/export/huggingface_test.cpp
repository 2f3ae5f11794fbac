#include "export/huggingface.h"

#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "formats/safetensors.h"
#include "support/golden.h"
#include "support/process.h"

namespace strata::exporting {
namespace {

using support::ScratchFolder;

// A made-up model of two tensors beside a configuration and a tokenizer file.
class WriteCheckpoint : public testing::Test {
 protected:
  WriteCheckpoint() {
    support::write_file(source_.path() / "config.json",
                        R"({"model_type": "llama", "torch_dtype": "bfloat16"})");
    support::write_file(source_.path() / "tokenizer.json", "{\"as\": \"it is\"}");
  }
  [[nodiscard]] Result<CheckpointSummary> write(tensor::DType dtype) {
    return write_checkpoint_files(
        *disk_, out_.path(), source_.path(), tensors_,
        [&](std::size_t i, std::span<float> to) {
          std::copy(values_[i].begin(), values_[i].end(), to.begin());
          return Result<void>();
        },
        dtype);
  }
  [[nodiscard]] std::vector<float> stored(const std::string& name) const {
    const auto file = formats::SafetensorsFile::open_checkpoint(*disk_, out_.path());
    if (!file) throw std::runtime_error(file.error().line());
    return formats::to_float(*file->get(name), name, "").value();
  }

  std::unique_ptr<sys::Disk> disk_ = sys::make_posix_disk();
  ScratchFolder source_;
  ScratchFolder out_;
  std::vector<CheckpointTensor> tensors_{{.name = "b.weight", .shape = {2, 2}},
                                         {.name = "a.weight", .shape = {3}}};
  std::vector<std::vector<float>> values_{{1.0f, -2.5f, 0.1f, 1e-3f}, {3.0f, 4.0f, 1.0f / 3.0f}};
};

TEST_F(WriteCheckpoint, KeepsFloatsBitForBit) {
  const auto summary = write(tensor::DType::kF32);
  ASSERT_TRUE(summary) << summary.error().line();
  EXPECT_EQ(stored("b.weight"), values_[0]);
  EXPECT_EQ(stored("a.weight"), values_[1]);
  EXPECT_EQ(summary->bytes, 28u);
}

TEST_F(WriteCheckpoint, RoundsToTheTypeAskedFor) {
  ASSERT_TRUE(write(tensor::DType::kBF16));
  EXPECT_EQ(stored("b.weight")[2], tensor::BFloat16::from(0.1f).to_float());
  ASSERT_TRUE(write(tensor::DType::kF16));
  EXPECT_EQ(stored("b.weight")[2], tensor::Float16::from(0.1f).to_float());
}

TEST_F(WriteCheckpoint, SaysItsTypeInTheConfigurationAndCopiesTheTokenizer) {
  ASSERT_TRUE(write(tensor::DType::kF16));
  const auto config = nlohmann::json::parse(support::read_file(out_.path() / "config.json"));
  EXPECT_EQ(config, nlohmann::json::parse(R"({"model_type": "llama", "torch_dtype": "float16"})"));
  EXPECT_EQ(support::read_file(out_.path() / "tokenizer.json"), "{\"as\": \"it is\"}");
}

TEST_F(WriteCheckpoint, UsesTheNewerNameOfTheTypeWhereTheSourceDoes) {
  support::write_file(source_.path() / "config.json", R"({"dtype": "float32"})");
  ASSERT_TRUE(write(tensor::DType::kBF16));
  const auto config = nlohmann::json::parse(support::read_file(out_.path() / "config.json"));
  EXPECT_EQ(config, nlohmann::json::parse(R"({"dtype": "bfloat16"})"));
}

TEST_F(WriteCheckpoint, RefusesValuesThatTheTypeCannotHold) {
  values_[1][2] = 7e4f;
  ASSERT_TRUE(write(tensor::DType::kBF16));
  const auto written = write(tensor::DType::kF16);
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code, ErrorCode::kNumeric);
  EXPECT_NE(written.error().line().find("a.weight: value 2 is 70000"), std::string::npos)
      << written.error().line();
  values_[1][2] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(write(tensor::DType::kF32));
}

TEST_F(WriteCheckpoint, PassesOnWhatTheProviderSays) {
  const auto written = write_checkpoint_files(
      *disk_, out_.path(), source_.path(), tensors_,
      [](std::size_t, std::span<float>) {
        return Result<void>(fail({.code = ErrorCode::kData, .what = "no such tensor"}));
      },
      tensor::DType::kF32);
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code, ErrorCode::kData);
  EXPECT_FALSE(disk_->exists(out_.path() / "model.safetensors"));
}

class EveryModel : public testing::TestWithParam<std::string> {};

TEST_P(EveryModel, IsTheSameAfterWritingAndLoading) {
  const auto disk = sys::make_posix_disk();
  const support::Golden golden(GetParam());
  const auto before = model::Model::load(*disk, golden.folder(), tensor::DType::kF32);
  ASSERT_TRUE(before) << before.error().line();
  const ScratchFolder out;
  const auto written =
      write_checkpoint_files(*disk, out.path(), golden.folder(), *before, tensor::DType::kF32);
  ASSERT_TRUE(written) << written.error().line();
  const auto after = model::Model::load(*disk, out.path(), tensor::DType::kF32);
  ASSERT_TRUE(after) << after.error().line();
  EXPECT_EQ(hex(before->state_hash()), hex(after->state_hash()));
}

INSTANTIATE_TEST_SUITE_P(Golden, EveryModel,
                         testing::Values("llama", "llama3_rope", "llama_bf16", "mistral", "qwen2",
                                         "qwen3", "gpt2"),
                         [](const auto& member) { return member.param; });

}  // namespace
}  // namespace strata::exporting

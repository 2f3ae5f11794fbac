// `strata export` as a user runs it: the base plus what PEFT computes for an adapter
// (tests/golden/adapters).
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "formats/safetensors.h"
#include "support/golden.h"
#include "support/process.h"
#include "sys/disk.h"

namespace strata::cli {
namespace {

namespace fs = std::filesystem;
using support::ScratchFolder;

support::Finished run_export(const std::vector<std::string>& args) {
  std::vector<std::string> all{STRATA_BINARY, "export"};
  all.insert(all.end(), args.begin(), args.end());
  return support::run_program(all);
}

formats::SafetensorsFile open(const fs::path& path) {
  auto file = formats::SafetensorsFile::open(*sys::make_posix_disk(), path);
  if (!file) throw std::runtime_error(file.error().line());
  return *std::move(file);
}

std::vector<float> values(const formats::SafetensorsFile& file, const std::string& name) {
  return formats::to_float(*file.get(name), name, "").value();
}

TEST(ExportCommand, WritesTheBaseWithThePatternAdapterAdded) {
  const support::Golden golden("llama");
  const ScratchFolder scratch;
  const fs::path out = scratch.path() / "out";
  const auto done =
      run_export({"--model", golden.folder(), "--adapter", golden.pattern_adapter(), "-o", out});
  ASSERT_EQ(done.status, 0) << done.err;
  const auto base = open(golden.folder() / "model.safetensors");
  const auto merged = open(out / "model.safetensors");
  const auto expected = open(support::golden_folder() / "adapters" / "expected.safetensors");
  EXPECT_EQ(merged.names(), base.names());
  std::size_t changed = 0;
  for (const auto& name : base.names()) {
    auto sum = values(base, name);
    const std::string delta = "patterns." + name.substr(0, name.rfind(".weight"));
    if (expected.contains(delta)) {
      const auto stored = *expected.get(delta);
      for (std::size_t i = 0; i < sum.size(); ++i) {
        double change = 0.0;
        std::memcpy(&change, stored.bytes.data() + i * sizeof change, sizeof change);
        sum[i] = static_cast<float>(sum[i] + change);
      }
      ++changed;
    }
    EXPECT_LT(support::max_abs_diff(values(merged, name), sum), 1e-6) << name;
  }
  EXPECT_EQ(changed, 6u);
}

TEST(ExportCommand, ConvertsAModelWithoutAdapters) {
  const support::Golden golden("gpt2");
  const ScratchFolder scratch;
  const fs::path out = scratch.path() / "out";
  const auto done =
      run_export({"--model", golden.folder(), "-o", out, "--dtype", "bf16", "--format", "json"});
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_EQ(nlohmann::json::parse(done.out)["data"]["dtype"], "bf16");
  const auto merged = open(out / "model.safetensors");
  const auto base = open(golden.folder() / "model.safetensors");
  const std::string name = "transformer.h.0.attn.c_attn.weight";
  EXPECT_EQ(merged.get(name)->dtype, tensor::DType::kBF16);
  EXPECT_EQ(merged.get(name)->shape, base.get(name)->shape);
  EXPECT_EQ(values(merged, name)[0], tensor::BFloat16::from(values(base, name)[0]).to_float());
}

TEST(ExportCommand, RefusesAnAdapterOfAnotherModelAndLeavesNothing) {
  const support::Golden golden("llama");
  const ScratchFolder scratch;
  const auto done = run_export({"--model", golden.folder(), "--adapter",
                                support::Golden("qwen2").adapter(), "-o", scratch.path() / "out"});
  EXPECT_EQ(done.status, 7);
  EXPECT_NE(done.err.find("model.layers.0."), std::string::npos) << done.err;
  EXPECT_TRUE(fs::is_empty(scratch.path()));
}

TEST(ExportCommand, RefusesAnUnknownType) {
  const ScratchFolder scratch;
  const auto done = run_export({"--model", support::Golden("llama").folder(), "-o",
                                scratch.path() / "out", "--dtype", "int3"});
  EXPECT_EQ(done.status, 2);
  EXPECT_NE(done.err.find("--dtype"), std::string::npos) << done.err;
}

}  // namespace
}  // namespace strata::cli

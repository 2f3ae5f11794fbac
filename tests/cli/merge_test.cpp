// `strata merge` as a user runs it, against PEFT's own merge of the same adapters
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

const fs::path& adapters() {
  static const fs::path kFolder = support::golden_folder() / "adapters";
  return kFolder;
}

support::Finished merge(const std::vector<std::string>& args) {
  std::vector<std::string> all{STRATA_BINARY, "merge"};
  all.insert(all.end(), args.begin(), args.end());
  return support::run_program(all);
}

formats::SafetensorsFile open(const fs::path& path) {
  auto file = formats::SafetensorsFile::open(*sys::make_posix_disk(), path);
  if (!file) throw std::runtime_error(file.error().line());
  return *std::move(file);
}

// B A in double from the two stored factors; the written scale is 1.
std::vector<double> product(const formats::SafetensorsFile& file, const std::string& module) {
  const std::string prefix = "base_model.model." + module;
  const auto a = *file.get(prefix + ".lora_A.weight");
  const auto b = *file.get(prefix + ".lora_B.weight");
  const auto a_values = *formats::to_float(a, "A", "");
  const auto b_values = *formats::to_float(b, "B", "");
  const std::size_t d_out = b.shape[0], rank = a.shape[0], d_in = a.shape[1];
  std::vector<double> out(d_out * d_in, 0.0);
  for (std::size_t i = 0; i < d_out; ++i) {
    for (std::size_t r = 0; r < rank; ++r) {
      for (std::size_t j = 0; j < d_in; ++j) {
        out[i * d_in + j] += static_cast<double>(b_values[i * rank + r]) * a_values[r * d_in + j];
      }
    }
  }
  return out;
}

std::vector<double> expected(const formats::SafetensorsFile& file, const std::string& name) {
  const auto stored = *file.get(name);
  std::vector<double> out(stored.element_count());
  std::memcpy(out.data(), stored.bytes.data(), stored.bytes.size());
  return out;
}

void expect_equal_to_cat(const fs::path& merged, double tolerance) {
  const auto file = open(merged / "adapter_model.safetensors");
  const auto golden = open(adapters() / "expected.safetensors");
  std::size_t modules = 0;
  for (const auto& name : golden.names()) {
    if (!name.starts_with("cat.")) continue;
    EXPECT_LT(support::max_rel_diff(product(file, name.substr(4)), expected(golden, name)),
              tolerance)
        << name;
    ++modules;
  }
  EXPECT_EQ(file.names().size(), 2 * modules);
}

TEST(MergeCommand, EqualsPeftsCatForUnequalRanksScalesAndLayers) {
  const ScratchFolder scratch;
  const auto done = merge({adapters() / "one", adapters() / "two", "--weights", "0.2,0.8", "-o",
                           scratch.path() / "out"});
  ASSERT_EQ(done.status, 0) << done.err;
  expect_equal_to_cat(scratch.path() / "out", 1e-6);
}

TEST(MergeCommand, RecompressesWithinTheToleranceAndKeepsTheProducts) {
  const ScratchFolder scratch;
  const fs::path one = adapters() / "one";
  const auto done = merge({one, one, "--weights", "0.5,0.5", "-o", scratch.path() / "out",
                           "--recompress", "1e-5", "--format", "json"});
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_EQ(nlohmann::json::parse(done.out)["data"]["rank"], 3)
      << "twice the same adapter has its rank";
  const auto file = open(scratch.path() / "out" / "adapter_model.safetensors");
  const auto golden = open(adapters() / "expected.safetensors");
  for (const auto& name : golden.names()) {
    if (!name.starts_with("one.")) continue;
    EXPECT_LT(support::max_rel_diff(product(file, name.substr(4)), expected(golden, name)), 2e-5)
        << name;
  }
}

TEST(MergeCommand, ReportsInputsAndOutputAsJson) {
  const ScratchFolder scratch;
  const fs::path out = scratch.path() / "out";
  const auto done = merge({adapters() / "one", adapters() / "two", "--weights", "0.2,0.8", "-o",
                           out, "--format", "json"});
  ASSERT_EQ(done.status, 0) << done.err;
  const auto data = nlohmann::json::parse(done.out)["data"];
  EXPECT_EQ(data["rank"], 5);
  ASSERT_EQ(data["inputs"].size(), 2u);
  EXPECT_EQ(data["inputs"][1]["rank"], 2);
  EXPECT_EQ(data["inputs"][1]["alpha"], 5.0);
  EXPECT_EQ(data["inputs"][1]["weight"], 0.8);
  EXPECT_GT(data["bytes"].get<std::size_t>(), 0u);
  const auto config = nlohmann::json::parse(support::read_file(out / "adapter_config.json"));
  EXPECT_EQ(config["target_modules"], nlohmann::json({"gate_proj", "q_proj", "v_proj"}));
  EXPECT_EQ(config["base_model_name_or_path"], "golden/llama");
}

TEST(MergeCommand, RefusesAnExistingFolderUnlessForced) {
  const ScratchFolder scratch;
  const fs::path out = scratch.path() / "out";
  fs::create_directories(out);
  support::write_file(out / "mine.txt", "keep me");
  const std::vector<std::string> args{adapters() / "one", "--weights", "1", "-o", out};
  const auto refused = merge(args);
  EXPECT_NE(refused.status, 0);
  EXPECT_NE(refused.err.find("--force"), std::string::npos) << refused.err;
  EXPECT_EQ(support::read_file(out / "mine.txt"), "keep me");
  auto forced = args;
  forced.emplace_back("--force");
  EXPECT_EQ(merge(forced).status, 0);
  EXPECT_TRUE(fs::exists(out / "adapter_config.json"));
}

TEST(MergeCommand, LeavesNothingBehindWhenAnInputIsDamaged) {
  const ScratchFolder scratch;
  const fs::path bad = scratch.path() / "bad";
  fs::create_directories(bad);
  fs::copy(adapters() / "one" / "adapter_config.json", bad);
  support::write_file(bad / "adapter_model.safetensors", "short");
  const auto done =
      merge({adapters() / "one", bad, "--weights", "1,1", "-o", scratch.path() / "out"});
  EXPECT_EQ(done.status, 7);
  EXPECT_NE(done.err.find("bad/adapter_model.safetensors"), std::string::npos) << done.err;
  EXPECT_EQ(std::distance(fs::directory_iterator(scratch.path()), fs::directory_iterator()), 1)
      << "only the bad input is left";
}

TEST(MergeCommand, WarnsWhenTheBasesDisagree) {
  const ScratchFolder scratch;
  const fs::path other = scratch.path() / "other";
  fs::copy(adapters() / "one", other);
  auto config = nlohmann::json::parse(support::read_file(other / "adapter_config.json"));
  config["base_model_name_or_path"] = "somebody/else";
  support::write_file(other / "adapter_config.json", config.dump());
  const auto done =
      merge({adapters() / "one", other, "--weights", "1,1", "-o", scratch.path() / "out"});
  EXPECT_EQ(done.status, 0);
  EXPECT_NE(done.err.find("somebody/else"), std::string::npos) << done.err;
}

TEST(MergeCommand, UntrainedAdaptersRecompressToAnAdapterOfNothing) {
  const ScratchFolder scratch;
  const fs::path fresh = scratch.path() / "fresh";  // A is drawn, B is zero
  fs::create_directory(fresh);
  fs::copy_file(adapters() / "one" / "adapter_config.json", fresh / "adapter_config.json");
  const auto trained = open(adapters() / "one" / "adapter_model.safetensors");
  std::vector<formats::TensorToWrite> tensors;
  const std::vector<std::byte> zeros(1 << 16);
  for (const auto& name : trained.names()) {
    const auto stored = *trained.get(name);
    const bool is_b = name.find("lora_B") != std::string::npos;
    tensors.push_back({.name = name,
                       .shape = stored.shape,
                       .bytes = is_b ? std::span(zeros).first(stored.bytes.size()) : stored.bytes});
  }
  ASSERT_TRUE(formats::write_safetensors(*sys::make_posix_disk(),
                                         fresh / "adapter_model.safetensors", tensors));
  const auto finished = merge(
      {fresh, fresh, "--weights", "1,2", "--recompress", "1e-3", "-o", scratch.path() / "zero"});
  ASSERT_EQ(finished.status, 0) << finished.err;
  const auto file = open(scratch.path() / "zero" / "adapter_model.safetensors");
  EXPECT_EQ(file.names().size(), trained.names().size());
  for (const auto& name : file.names()) {
    const auto values = *formats::to_float(*file.get(name), name, "");
    EXPECT_EQ(values, std::vector<float>(values.size(), 0.0f)) << name;
  }
}

}  // namespace
}  // namespace strata::cli

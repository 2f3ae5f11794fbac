#include "export/peft.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "support/golden.h"
#include "support/process.h"

namespace strata::exporting {
namespace {

using support::golden_folder;
using support::ScratchFolder;
using Json = nlohmann::ordered_json;

// The matrices PEFT computed for the adapters of tests/golden/adapters.
class Expected {
 public:
  Expected()
      : file_(*formats::SafetensorsFile::open(*sys::make_posix_disk(),
                                              golden_folder() / "adapters/expected.safetensors")) {}

  [[nodiscard]] std::size_t count(const std::string& adapter) const {
    const auto names = file_.names();
    return static_cast<std::size_t>(std::count_if(
        names.begin(), names.end(), [&](auto& n) { return n.starts_with(adapter + "."); }));
  }
  [[nodiscard]] std::vector<double> matrix(const std::string& name) const {
    const auto stored = file_.get(name);
    if (!stored) throw std::runtime_error(stored.error().line());
    std::vector<double> out(stored->element_count());
    std::memcpy(out.data(), stored->bytes.data(), stored->bytes.size());
    return out;
  }

 private:
  formats::SafetensorsFile file_;
};

std::vector<double> dense(const adapter::TensorDelta& delta) {
  std::vector<double> out(delta.d_out * delta.d_in, 0.0);
  adapter::add_dense(delta, 1.0, out);
  return out;
}

PeftAdapter read(const std::filesystem::path& folder) {
  auto adapter = read_peft(*sys::make_posix_disk(), folder);
  if (!adapter) throw std::runtime_error(adapter.error().line());
  return *std::move(adapter);
}

void expect_equal_to_peft(const adapter::DeltaTerms& delta, const std::string& name) {
  const Expected expected;
  EXPECT_EQ(delta.size(), expected.count(name));
  for (const auto& [tensor, change] : delta) {
    const std::string module = tensor.substr(0, tensor.rfind(".weight"));
    EXPECT_LT(support::max_rel_diff(dense(change), expected.matrix(name + "." + module)), 2e-7)
        << tensor;
  }
}

TEST(ReadPeft, GivesTheProductsThatPeftComputes) {
  expect_equal_to_peft(delta_terms(read(golden_folder() / "adapters/one")), "one");
}

TEST(ReadPeft, UnderstandsRsLora) {
  expect_equal_to_peft(delta_terms(read(golden_folder() / "adapters/two")), "two");
}

TEST(ReadPeft, PicksRankAndAlphaByPatternAsPeftDoes) {
  const auto adapter = read(support::Golden("llama").pattern_adapter());
  expect_equal_to_peft(delta_terms(adapter), "patterns");
  EXPECT_EQ(adapter.max_rank(), 6u);
}

TEST(ReadPeft, GivesFactorsWithoutScale) {
  const auto adapter = read(golden_folder() / "adapters/one");
  const auto all = factors(adapter);
  ASSERT_EQ(all.size(), adapter.modules.size());
  const auto& [module, pair] = *all.begin();
  EXPECT_EQ(pair.b, adapter.modules.at(module).b);
  EXPECT_EQ(pair.a.rows(), 3u);
  EXPECT_DOUBLE_EQ(adapter.modules.at(module).scale, 7.0 / 3.0);
}

TEST(ReadPeft, KnowsThatGpt2StoresItsLayersTransposed) {
  const auto adapter = read(support::Golden("gpt2").adapter());
  EXPECT_TRUE(adapter.config.fan_in_fan_out);
  const auto& fused = adapter.modules.at("transformer.h.0.attn.c_attn");
  EXPECT_EQ(fused.b.rows(), 3 * fused.a.cols());
}

struct BadConfig {
  std::string name;
  std::string key;
  Json value;
  ErrorCode code;
};

class RefusedConfig : public testing::TestWithParam<BadConfig> {};

TEST_P(RefusedConfig, IsNamedByFileAndKey) {
  Json config =
      Json::parse(support::read_file(golden_folder() / "adapters/one/adapter_config.json"));
  config[GetParam().key] = GetParam().value;
  const auto parsed = parse_peft_config(config.dump(), "some/adapter_config.json");
  ASSERT_FALSE(parsed);
  EXPECT_EQ(parsed.error().code, GetParam().code);
  const std::string line = parsed.error().line();
  EXPECT_NE(line.find("some/adapter_config.json"), std::string::npos) << line;
  EXPECT_NE(line.find(GetParam().key), std::string::npos) << line;
}

INSTANTIATE_TEST_SUITE_P(
    Peft, RefusedConfig,
    testing::Values(BadConfig{"another_method", "peft_type", "IA3", ErrorCode::kUnsupported},
                    BadConfig{"dora", "use_dora", true, ErrorCode::kUnsupported},
                    BadConfig{"trained_biases", "bias", "lora_only", ErrorCode::kUnsupported},
                    BadConfig{"lora_bias", "lora_bias", true, ErrorCode::kUnsupported},
                    BadConfig{"whole_modules", "modules_to_save", Json::array({"lm_head"}),
                              ErrorCode::kUnsupported},
                    BadConfig{"repeated_layers", "layer_replication", Json::parse("[[0,1]]"),
                              ErrorCode::kUnsupported},
                    BadConfig{"pissa", "init_lora_weights", "pissa_niter_4",
                              ErrorCode::kUnsupported},
                    BadConfig{"rank_zero", "r", 0, ErrorCode::kFormat},
                    BadConfig{"rank_text", "r", "8", ErrorCode::kFormat},
                    BadConfig{"rank_missing", "r", nullptr, ErrorCode::kFormat},
                    BadConfig{"alpha_text", "lora_alpha", "x", ErrorCode::kFormat},
                    BadConfig{"rslora_number", "use_rslora", 1, ErrorCode::kFormat},
                    BadConfig{"pattern_list", "rank_pattern", Json::array({1}), ErrorCode::kFormat},
                    BadConfig{"pattern_rank", "rank_pattern", Json::parse(R"({"q_proj": 0})"),
                              ErrorCode::kFormat},
                    BadConfig{"targets_number", "target_modules", 3, ErrorCode::kFormat}),
    [](const auto& member) { return member.param.name; });

// A copy of adapter `one` that a test may damage.
class DamagedAdapter : public testing::Test {
 protected:
  DamagedAdapter() {
    for (const auto* name : {"adapter_config.json", "adapter_model.safetensors"}) {
      std::filesystem::copy_file(golden_folder() / "adapters/one" / name, folder() / name);
    }
  }
  [[nodiscard]] std::filesystem::path folder() const { return scratch_.path(); }
  void set(const std::string& key, const Json& value) const {
    Json config = Json::parse(support::read_file(folder() / "adapter_config.json"));
    config[key] = value;
    support::write_file(folder() / "adapter_config.json", config.dump());
  }
  void write(const std::vector<formats::TensorToWrite>& tensors) const {
    ASSERT_TRUE(formats::write_safetensors(*sys::make_posix_disk(),
                                           folder() / "adapter_model.safetensors", tensors));
  }
  void expect_refused(ErrorCode code, const std::string& part) const {
    const auto adapter = read_peft(*sys::make_posix_disk(), folder());
    ASSERT_FALSE(adapter);
    EXPECT_EQ(adapter.error().code, code);
    EXPECT_NE(adapter.error().line().find(part), std::string::npos) << adapter.error().line();
  }

 private:
  ScratchFolder scratch_;
};

TEST_F(DamagedAdapter, WithAnotherRankThanConfiguredIsRefused) {
  set("r", 4);
  expect_refused(ErrorCode::kFormat,
                 "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight");
}

TEST_F(DamagedAdapter, WithNonFiniteValuesIsRefused) {
  const std::vector<float> a(3, std::numeric_limits<float>::quiet_NaN());
  const std::vector<float> b(3, 1.0f);
  write({{.name = "base_model.model.x.lora_A.weight",
          .shape = {3, 1},
          .bytes = std::as_bytes(std::span(a))},
         {.name = "base_model.model.x.lora_B.weight",
          .shape = {1, 3},
          .bytes = std::as_bytes(std::span(b))}});
  expect_refused(ErrorCode::kFormat, "base_model.model.x.lora_A.weight");
}

TEST_F(DamagedAdapter, WithoutOneOfThePairIsRefused) {
  const std::vector<float> a(3, 1.0f);
  write({{.name = "base_model.model.x.lora_A.weight",
          .shape = {3, 1},
          .bytes = std::as_bytes(std::span(a))}});
  expect_refused(ErrorCode::kFormat, "base_model.model.x.lora_B.weight");
}

TEST_F(DamagedAdapter, WithOtherTensorsIsRefused) {
  const std::vector<float> head(3, 1.0f);
  write({{.name = "base_model.model.lm_head.weight",
          .shape = {3, 1},
          .bytes = std::as_bytes(std::span(head))}});
  expect_refused(ErrorCode::kUnsupported, "lm_head.weight");
}

TEST_F(DamagedAdapter, ThatIsAPickleIsNamedAsSuch) {
  std::filesystem::rename(folder() / "adapter_model.safetensors", folder() / "adapter_model.bin");
  expect_refused(ErrorCode::kUnsupported, "safe_serialization");
}

TEST_F(DamagedAdapter, WithoutConfigurationIsRefused) {
  std::filesystem::remove(folder() / "adapter_config.json");
  expect_refused(ErrorCode::kFileMissing, "adapter_config.json");
}

TEST_F(DamagedAdapter, WithABrokenPatternIsRefused) {
  set("rank_pattern", {{"q_proj(", 3}});
  expect_refused(ErrorCode::kFormat, "adapter_config.json: rank_pattern");
}

TEST_F(DamagedAdapter, PatternsMeanWhatPythonsReMakesOfThem) {
  // A point matches any character, \\Z is the end, and the first match in the file's order counts.
  const auto alpha_by = [&](const Json& patterns) {
    set("alpha_pattern", patterns);
    const auto adapter = read_peft(*sys::make_posix_disk(), folder());
    if (!adapter) throw std::runtime_error(adapter.error().line());
    return adapter->modules.at("model.layers.0.self_attn.q_proj").alpha;
  };
  EXPECT_EQ(alpha_by({{"q.proj", 2}}), 2.0);
  EXPECT_EQ(alpha_by({{R"(.*\d.*\Z)", 3}}), 3.0);
  EXPECT_EQ(alpha_by({{R"(.*(?<!x)q_proj)", 4}}), 4.0);
  EXPECT_EQ(alpha_by({{R"(^model\.layers\.(?P<n>0|1)\..*)", 5}}), 5.0);
  EXPECT_EQ(alpha_by({{"q_proj", 6}, {"layers.0.self_attn.q_proj", 7}}), 6.0);
  EXPECT_EQ(alpha_by({{"layers.0.self_attn.q_proj", 7}, {"q_proj", 6}}), 7.0);
  EXPECT_EQ(alpha_by({{"proj", 8}, {"attn.q_pro", 8}, {"layers.0", 8}}), 7.0) << "the file's own";
}

adapter::LowRank low_rank(std::size_t d_out, std::size_t rank, std::size_t d_in, float seed) {
  adapter::LowRank out{.b = {d_out, rank}, .a = {rank, d_in}};
  for (float& value : out.b.values()) value = std::sin(seed += 1.0f);
  for (float& value : out.a.values()) value = std::cos(seed += 1.0f);
  return out;
}

// Two layers of rank 3 (in two terms) and 2, one of rank 2.
adapter::DeltaTerms update() {
  adapter::DeltaTerms out;
  out["model.layers.0.self_attn.q_proj.weight"] = {
      .d_out = 4, .d_in = 5, .terms = {low_rank(4, 1, 5, 1), low_rank(4, 2, 5, 2)}};
  out["model.layers.0.mlp.down_proj.weight"] = {
      .d_out = 3, .d_in = 6, .terms = {low_rank(3, 2, 6, 3)}};
  out["model.layers.1.mlp.down_proj.weight"] = {
      .d_out = 3, .d_in = 6, .terms = {low_rank(3, 2, 6, 4)}};
  return out;
}

void expect_same_products(const adapter::DeltaTerms& actual, const adapter::DeltaTerms& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (const auto& [name, change] : expected) {
    EXPECT_LT(support::max_abs_diff(dense(actual.at(name)), dense(change)), 1e-12) << name;
  }
}

class WritePeft : public testing::TestWithParam<bool> {};

TEST_P(WritePeft, ReadsBackAsTheSameProductsWithScaleOne) {
  const ScratchFolder scratch;
  const auto disk = sys::make_posix_disk();
  const auto summary = write_peft_files(*disk, scratch.path(), update(),
                                        {.base_model = "a/b", .uniform_rank = GetParam()});
  ASSERT_TRUE(summary) << summary.error().line();
  const auto adapter = read(scratch.path());
  expect_same_products(delta_terms(adapter), update());
  for (const auto& [module, factors] : adapter.modules) {
    EXPECT_EQ(factors.scale, 1.0) << module;
    EXPECT_EQ(factors.rank, GetParam() || module.ends_with("q_proj") ? 3u : 2u) << module;
  }
  EXPECT_EQ(summary->rank, GetParam() ? 3u : 2u);
  EXPECT_EQ(adapter.config.base_model, "a/b");
}

INSTANTIATE_TEST_SUITE_P(Rank, WritePeft, testing::Bool(),
                         [](const auto& member) { return member.param ? "Uniform" : "ByPattern"; });

TEST(WritePeft, WritesEveryKeyThatReadersExpect) {
  const ScratchFolder scratch;
  ASSERT_TRUE(write_peft_files(*sys::make_posix_disk(), scratch.path(), update(),
                               {.base_model = "a/b", .fan_in_fan_out = true}));
  const Json config = Json::parse(support::read_file(scratch.path() / "adapter_config.json"));
  const Json expected = Json::parse(
      R"({"alpha_pattern":{}, "auto_mapping":null, "base_model_name_or_path":"a/b", "bias":"none",
    "exclude_modules":null, "fan_in_fan_out":true, "inference_mode":true, "init_lora_weights":true, "layers_pattern":null,
    "layers_to_transform":null, "lora_alpha":3, "lora_dropout":0.0, "modules_to_save":null, "peft_type":"LORA", "r":3,
    "rank_pattern":{}, "revision":null, "target_modules":["model.layers.0.mlp.down_proj","model.layers.0.self_attn.q_proj",
    "model.layers.1.mlp.down_proj"], "task_type":"CAUSAL_LM", "use_dora":false, "use_rslora":false})");
  EXPECT_EQ(config, expected);
}

TEST(WritePeft, NamesTheBaseInTheModelCard) {
  const ScratchFolder scratch;
  ASSERT_TRUE(
      write_peft_files(*sys::make_posix_disk(), scratch.path(), update(), {.base_model = "a/b"}));
  const std::string card = support::read_file(scratch.path() / "README.md");
  EXPECT_TRUE(card.starts_with("---\nbase_model: \"a/b\"\nlibrary_name: peft\n")) << card;
}

TEST(WritePeft, RefusesADenseChangeWithAWayOut) {
  auto delta = update();
  delta["model.norm.weight"] = {.d_out = 4, .d_in = 1, .terms = {adapter::Dense{.values = {4, 1}}}};
  const ScratchFolder scratch;
  const auto written = write_peft_files(*sys::make_posix_disk(), scratch.path(), delta, {});
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(written.error().line().find("model.norm.weight"), std::string::npos);
  EXPECT_NE(written.error().line().find("merged checkpoint"), std::string::npos);
  EXPECT_TRUE(std::filesystem::is_empty(scratch.path()));
}

TEST(WritePeft, RefusesNonFiniteValues) {
  auto delta = update();
  std::get<adapter::LowRank>(delta.begin()->second.terms[0]).a(0, 0) =
      std::numeric_limits<float>::infinity();
  const ScratchFolder scratch;
  EXPECT_FALSE(write_peft_files(*sys::make_posix_disk(), scratch.path(), delta, {}));
  EXPECT_TRUE(std::filesystem::is_empty(scratch.path()));
}

TEST(WritePeft, RefusesAnUpdateOfNothing) {
  const ScratchFolder scratch;
  EXPECT_FALSE(write_peft_files(*sys::make_posix_disk(), scratch.path(), {}, {}));
}

TEST(ShortTargets, NamesAKindOnlyWhereAllItsLayersAreAdapted) {
  const std::vector<std::string> linears{
      "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj",
      "model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj"};
  EXPECT_EQ(short_targets(update(), linears),
            (std::vector<std::string>{"down_proj", "model.layers.0.self_attn.q_proj"}));
}

}  // namespace
}  // namespace strata::exporting

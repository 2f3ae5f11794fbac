// config.json as families read it: values that make no model are refused by file and key.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "model/family.h"
#include "model/model.h"

namespace strata::model {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

json llama() {
  return {{"model_type", "llama"},        {"hidden_size", 24},        {"intermediate_size", 40},
          {"num_hidden_layers", 2},       {"num_attention_heads", 4}, {"vocab_size", 67},
          {"max_position_embeddings", 64}};
}

json qwen2(json layer_types) {
  json out = llama();
  out.update({{"model_type", "qwen2"},
              {"use_sliding_window", true},
              {"sliding_window", 5},
              {"max_window_layers", 1},
              {"layer_types", std::move(layer_types)}});
  return out;
}

Result<DecoderConfig> parse(const std::string& text) {
  auto family = find_family(text, "config.json");
  if (!family) return fail(std::move(family).error());
  return (*family)->parse(text, "config.json");
}

std::string refusal(const json& config) {
  const auto parsed = parse(config.dump());
  return parsed ? "accepted" : parsed.error().line();
}

TEST(FamilyConfig, TextThatIsNoObjectIsSaidToBeSo) {
  EXPECT_THAT(parse("").error().line(), HasSubstr("config.json: is not valid JSON"));
  EXPECT_THAT(parse("{\"model_type\": \"lla").error().line(), HasSubstr("is not valid JSON"));
  EXPECT_THAT(parse("[]").error().line(), HasSubstr("is not a JSON object"));
  EXPECT_THAT(parse(std::string(100000, '[')).error().line(), HasSubstr("nested too deeply"));
}

TEST(FamilyConfig, ValuesOfAnotherKindAreShownWholeCharactersOnly) {
  json config = llama();
  config["vocab_size"] =
      "\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9"
      "\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9"
      "\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9";
  const std::string line = refusal(config);
  EXPECT_THAT(line, HasSubstr("config.json: vocab_size"));
  EXPECT_NO_THROW((void)json(line).dump());  // UTF-8
}

TEST(FamilyConfig, MoreLayersThanAnyModelHasAreRefusedAtOnce) {
  json config = llama();
  config["num_hidden_layers"] = 2147483647;
  EXPECT_THAT(refusal(config), HasSubstr("2147483647 layers"));
}

TEST(FamilyConfig, RotaryParametersAreCheckedLikeAnyKey) {
  const auto with = [](const char* key, json value) {
    json config = llama();
    config[key] = std::move(value);
    return refusal(config);
  };
  EXPECT_THAT(with("rope_theta", 0), AllOf(HasSubstr("rope_theta"), HasSubstr("positive")));
  EXPECT_THAT(with("rope_parameters", {{"rope_theta", "x"}}), HasSubstr("rope_theta: is \"x\""));
  EXPECT_THAT(with("rope_parameters", {{"rope_type", 5}}), HasSubstr("rope_type: is 5"));
  EXPECT_THAT(with("rope_scaling", {{"type", "yarn"}, {"factor", 2.0}}),
              HasSubstr("supported: default llama3"));
  json scaling{{"rope_type", "llama3"},
               {"factor", 8.0},
               {"low_freq_factor", 1.0},
               {"high_freq_factor", 4.0},
               {"original_max_position_embeddings", 8192}};
  EXPECT_EQ(with("rope_scaling", scaling), "accepted");
  for (const std::string key :
       {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}) {
    json broken = scaling;
    broken.erase(key);
    EXPECT_THAT(with("rope_scaling", broken), AllOf(HasSubstr(key), HasSubstr("is missing")));
    broken[key] = "8";
    EXPECT_THAT(with("rope_scaling", broken), HasSubstr(key + ": is \"8\""));
    broken[key] = 0;
    EXPECT_THAT(with("rope_scaling", broken), HasSubstr("out of order"));
  }
}

TEST(FamilyConfig, NegativeNormEpsilonIsRefused) {
  json config = llama();
  config["rms_norm_eps"] = -1e-5;
  EXPECT_THAT(refusal(config), HasSubstr("epsilon"));
}

TEST(FamilyConfig, LayerTypesSayWhichLayersHaveTheWindow) {
  const std::string full = "full_attention", sliding = "sliding_attention";
  EXPECT_EQ(parse(qwen2({full, sliding}).dump())->sliding_from_layer, 1U);
  EXPECT_EQ(parse(qwen2({sliding, sliding}).dump())->sliding_from_layer, 0U);
  EXPECT_EQ(parse(qwen2({full, full}).dump())->sliding_from_layer, 2U);
  EXPECT_EQ(parse(qwen2(nullptr).dump())->sliding_from_layer, 1U);
  EXPECT_THAT(refusal(qwen2({sliding, full})), HasSubstr("layer_types[1]"));
  EXPECT_THAT(refusal(qwen2({full, "chunked_attention"})), HasSubstr("chunked_attention"));
  EXPECT_THAT(refusal(qwen2({full})), HasSubstr("one \"full_attention\""));
  json without_window = qwen2({full, sliding});
  without_window["use_sliding_window"] = false;
  EXPECT_THAT(refusal(without_window), HasSubstr("use_sliding_window"));
}

TEST(FamilyConfig, AModelLargerThanAnyMemoryIsNotBegun) {
  json config = llama();
  config["vocab_size"] = 2147483647;
  config["hidden_size"] = 2147483640;
  const auto made =
      Model::create(config.dump(), "config.json", tensor::DType::kF32, sys::Stream(0));
  ASSERT_FALSE(made);
  EXPECT_THAT(made.error().line(), AllOf(HasSubstr("config.json"), HasSubstr("parameters")));
}

}  // namespace
}  // namespace strata::model

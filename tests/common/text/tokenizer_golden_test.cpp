// Ids and text against the tokenizers library (tests/golden/tokenizer.py), on sentences in many
// scripts.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "sys/disk.h"
#include "text/tokenizer.h"

namespace strata::text {
namespace {

using nlohmann::json;

class TokenizerGolden : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const auto path = std::filesystem::path(STRATA_SOURCE_DIR) / "tests/golden/tokenizer" /
                      (GetParam() + ".json");
    golden_ = json::parse(sys::make_posix_disk()->read_text(path).value());
  }
  Tokenizer tokenizer() const {
    return Tokenizer::parse(golden_["tokenizer"].dump(), GetParam()).value();
  }
  json golden_;
};

TEST_P(TokenizerGolden, IdsEqualTheLibrarys) {
  const Tokenizer t = tokenizer();
  ASSERT_GT(golden_["cases"].size(), 80u);
  for (const auto& row : golden_["cases"]) {
    const auto text = row[0].get<std::string>();
    EXPECT_EQ(t.encode(text, false).value(), row[1].get<std::vector<TokenId>>()) << text;
    EXPECT_EQ(t.encode(text, true).value(), row[2].get<std::vector<TokenId>>()) << text;
  }
}

TEST_P(TokenizerGolden, DecodedTextEqualsTheLibrarys) {
  const Tokenizer t = tokenizer();
  for (const auto& row : golden_["cases"]) {
    const auto ids = row[2].get<std::vector<TokenId>>();
    EXPECT_EQ(t.decode(ids, true), row[3].get<std::string>());
    EXPECT_EQ(t.decode(ids, false), row[4].get<std::string>());
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, TokenizerGolden,
                         testing::Values("gpt2", "smollm2", "llama3", "qwen2", "sentencepiece"),
                         [](const auto& shape) { return shape.param; });

std::string refusal(const std::string& json_text) {
  const auto parsed = Tokenizer::parse(json_text, "tokenizer.json");
  return parsed ? "accepted" : parsed.error().line();
}

TEST(Tokenizer, UnsupportedAndDamagedFilesAreRefusedWithWhatIsSupported) {
  EXPECT_NE(refusal("[1,2]").find("not a JSON object"), std::string::npos);
  EXPECT_NE(refusal(R"({"model":{"type":"WordPiece","vocab":{}}})").find("supported: BPE"),
            std::string::npos);
  EXPECT_NE(refusal(R"({"model":{"type":"BPE","vocab":{"a":0},"merges":["a b"]}})")
                .find("not in the vocabulary"),
            std::string::npos);
  EXPECT_NE(refusal(R"({"model":{"type":"BPE","vocab":{"a":-1},"merges":[]}})").find("token \"a\""),
            std::string::npos);
  EXPECT_NE(
      refusal(
          R"({"pre_tokenizer":{"type":"Split","pattern":{"Regex":"("}},"model":{"type":"BPE","vocab":{"a":0},"merges":[]}})")
          .find("regular expression"),
      std::string::npos);
}

TEST(Tokenizer, TextThatIsNotUtf8IsRefused) {
  const auto t =
      Tokenizer::parse(R"({"model":{"type":"BPE","vocab":{"a":0},"merges":[]}})", "t").value();
  const auto encoded = t.encode("a\xff", false);
  ASSERT_FALSE(encoded);
  EXPECT_EQ(encoded.error().code, ErrorCode::kData);
}

TEST(Tokenizer, LongWordsMergeInTheSameOrderAsShortOnes) {
  // "aaaa...": merges (a,a) then (aa,aa); 100 characters go through the heap, pieces of 40 through
  // the scan.
  const auto t =
      Tokenizer::parse(
          R"({"model":{"type":"BPE","vocab":{"a":0,"aa":1,"aaaa":2},"merges":["a a","aa aa"]}})",
          "t")
          .value();
  EXPECT_EQ(t.encode(std::string(100, 'a'), false).value(), std::vector<TokenId>(25, 2));
  EXPECT_EQ(t.encode(std::string(40, 'a'), false).value(), std::vector<TokenId>(10, 2));
}

}  // namespace
}  // namespace strata::text

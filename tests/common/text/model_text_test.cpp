#include "text/model_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tiny_models.h"

namespace strata::text {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kChatMl =
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>'}}";

TEST(ModelText, TakesMarkersFromTheTokenizerConfigAsTextOrAsObject) {
  const TinyModel model(tiny_tokenizer(),
                        {{"bos_token", nullptr}, {"eos_token", {{"content", "<|im_end|>"}}}});
  const auto text = model.load();
  ASSERT_TRUE(text) << text.error().line();
  EXPECT_EQ(text->bos, std::nullopt);
  EXPECT_EQ(text->eos, 3);
  EXPECT_EQ(text->chat.markers().eos, "<|im_end|>");
}

TEST(ModelText, FallsBackToTheIdsOfTheModelConfig) {
  TinyModel model(tiny_tokenizer(), json::object());
  model.write("config.json", R"({"bos_token_id": 0, "eos_token_id": [1, 3]})");
  const auto text = model.load();
  ASSERT_TRUE(text) << text.error().line();
  EXPECT_EQ(text->bos, 0);
  EXPECT_EQ(text->eos, 1);
  EXPECT_EQ(text->chat.markers().eos, "</s>");
}

TEST(ModelText, ATokenSaidToBeNoneStaysNone) {
  TinyModel model(tiny_tokenizer(), {{"bos_token", nullptr}});
  model.write("config.json", R"({"bos_token_id": 0})");
  const auto text = model.load();
  ASSERT_TRUE(text) << text.error().line();
  EXPECT_EQ(text->bos, std::nullopt);
}

TEST(ModelText, IsPlainWithoutATemplateAndSaysSo) {
  const auto text = TinyModel(tiny_tokenizer()).load();
  ASSERT_TRUE(text) << text.error().line();
  EXPECT_EQ(text->chat.name(), TemplateName::kPlain);
  EXPECT_THAT(text->template_note, HasSubstr("no chat template"));
}

TEST(ModelText, FindsTheTemplateInItsFileInTheConfigOrInAListOfNamedOnes) {
  TinyModel in_file(tiny_tokenizer());
  in_file.write("chat_template.jinja", kChatMl);
  const TinyModel in_config(tiny_tokenizer(), {{"eos_token", "</s>"}, {"chat_template", kChatMl}});
  const TinyModel in_list(tiny_tokenizer(), {{"chat_template",
                                              {{{"name", "tool_use"}, {"template", "?"}},
                                               {{"name", "default"}, {"template", kChatMl}}}}});
  for (const TinyModel* model : {static_cast<const TinyModel*>(&in_file), &in_config, &in_list}) {
    const auto text = model->load();
    ASSERT_TRUE(text) << text.error().line();
    EXPECT_EQ(text->chat.name(), TemplateName::kChatMl);
  }
}

TEST(ModelText, ATemplateAskedForByNameComesBeforeTheModelsOwn) {
  TinyModel model(tiny_tokenizer());
  model.write("chat_template.jinja", "{{ an unknown one }}");
  EXPECT_EQ(model.load().error().code, ErrorCode::kUnsupported);
  const auto text = model.load("alpaca");
  ASSERT_TRUE(text) << text.error().line();
  EXPECT_EQ(text->chat.name(), TemplateName::kAlpaca);
}

TEST(ModelText, GenerationStopsAtTheEndOfTextAndOfATurn) {
  TinyModel model(tiny_tokenizer());
  model.write("chat_template.jinja", kChatMl);
  model.write("generation_config.json", R"({"eos_token_id": [1, 7]})");
  const auto text = model.load();
  ASSERT_TRUE(text) << text.error().line();
  EXPECT_THAT(text->stops, ElementsAre(1, 7, 3));
}

TEST(ModelText, NamesADamagedFile) {
  TinyModel model(tiny_tokenizer());
  model.write("generation_config.json", "[1");
  const auto text = model.load();
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().code, ErrorCode::kFormat);
  EXPECT_THAT(text.error().line(), HasSubstr("generation_config.json"));
}

}  // namespace
}  // namespace strata::text

#include "text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "support/golden.h"
#include "support/process.h"

namespace strata::text {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

json golden() {
  return json::parse(support::read_file(support::golden_folder() / "chat" / "chat.json"));
}

std::vector<Message> messages_of(const json& list) {
  std::vector<Message> out;
  for (const auto& message : list) out.push_back({message["role"], message["content"]});
  return out;
}

std::string joined(const std::vector<Piece>& pieces) {
  std::string out;
  for (const auto& piece : pieces) out += piece.text;
  return out;
}

ChatTemplate named(std::string_view name) {
  auto out = ChatTemplate::named(name, {"<s>", "</s>"});
  EXPECT_TRUE(out) << out.error().line();
  return *out;
}

const std::vector<Message> kTwoTurns{
    {"user", "q1"}, {"assistant", "a1"}, {"user", "q2"}, {"assistant", "a2"}};

TEST(ChatTemplate, RecognisesModelsOwnTemplatesAndWritesWhatTransformersWrites) {
  std::size_t compared = 0;
  for (const auto& entry : golden()) {
    const auto chat = ChatTemplate::recognise(entry["jinja"].get<std::string>(),
                                              {entry["bos"], entry["eos"]}, "test");
    ASSERT_TRUE(chat) << entry["case"] << " " << chat.error().line();
    EXPECT_EQ(name(chat->name()), entry["name"]) << entry["case"];
    for (const auto& text : entry["texts"]) {
      const auto pieces =
          chat->render(messages_of(text["messages"]), text["generation_prompt"].get<bool>());
      ASSERT_TRUE(pieces) << entry["case"] << " " << pieces.error().line();
      EXPECT_EQ(joined(*pieces), text["text"].get<std::string>()) << entry["case"];
      ++compared;
    }
  }
  EXPECT_GE(compared, 50u);
}

TEST(ChatTemplate, NamedTemplatesAreTheCommonForms) {
  for (const auto& entry : golden()) {
    const std::string own = entry["case"];
    if (own != entry["name"]) continue;  // a model's variant
    const auto chat = ChatTemplate::named(own, {entry["bos"], entry["eos"]});
    ASSERT_TRUE(chat);
    for (const auto& text : entry["texts"]) {
      const auto pieces =
          chat->render(messages_of(text["messages"]), text["generation_prompt"].get<bool>());
      ASSERT_TRUE(pieces);
      EXPECT_EQ(joined(*pieces), text["text"].get<std::string>()) << own;
    }
  }
}

TEST(ChatTemplate, TrainsAnswersAndTheEndOfTheirTurnOnly) {
  const auto pieces = named("chatml").render(kTwoTurns, false);
  ASSERT_TRUE(pieces);
  EXPECT_THAT(*pieces,
              ElementsAre(Piece{"<|im_start|>user\nq1<|im_end|>\n<|im_start|>assistant\n", false},
                          Piece{"a1<|im_end|>", true},
                          Piece{"\n<|im_start|>user\nq2<|im_end|>\n<|im_start|>assistant\n", false},
                          Piece{"a2<|im_end|>", true}, Piece{"\n", false}));
}

TEST(ChatTemplate, EveryTemplateTrainsExactlyTheAnswersAndTheirEnds) {
  for (const std::string_view name :
       {"plain", "chatml", "llama3", "llama2", "mistral", "zephyr", "alpaca"}) {
    const auto pieces = named(name).render(kTwoTurns, false);
    ASSERT_TRUE(pieces) << name;
    std::vector<std::string> trained;
    for (const auto& piece : *pieces) {
      if (piece.trained) trained.push_back(piece.text);
    }
    ASSERT_EQ(trained.size(), 2u) << name;
    for (std::size_t i = 0; i < 2; ++i) {
      EXPECT_THAT(trained[i], HasSubstr("a" + std::to_string(i + 1))) << name;
      EXPECT_GT(trained[i].size(), 2u) << name << " does not train the end of a turn";
      EXPECT_THAT(trained[i], ::testing::Not(HasSubstr("q"))) << name;
    }
  }
}

TEST(ChatTemplate, LeavesAnswersBeforeTheFirstTrainedMessageAlone) {
  const auto pieces = named("chatml").render(kTwoTurns, false, 2);
  ASSERT_TRUE(pieces);
  ASSERT_EQ(pieces->size(), 3u);
  EXPECT_EQ((*pieces)[1], (Piece{"a2<|im_end|>", true}));
}

TEST(ChatTemplate, AGenerationPromptIsThePrefixOfTheAnsweredDialogue) {
  const std::vector<Message> asked(kTwoTurns.begin(), kTwoTurns.end() - 1);
  for (const std::string_view name :
       {"plain", "chatml", "llama3", "llama2", "mistral", "zephyr", "alpaca"}) {
    const auto prompt = named(name).render(asked, true);
    const auto whole = named(name).render(kTwoTurns, false);
    ASSERT_TRUE(prompt && whole);
    EXPECT_TRUE(joined(*whole).starts_with(joined(*prompt))) << name << ": " << joined(*prompt);
  }
}

TEST(ChatTemplate, SaysWhichDefaultSystemMessageItFound) {
  for (const auto& entry : golden()) {
    if (entry["case"] != "smollm2") continue;
    const auto chat = ChatTemplate::recognise(entry["jinja"].get<std::string>(), {}, "test");
    ASSERT_TRUE(chat);
    EXPECT_EQ(chat->default_system(),
              "You are a helpful AI assistant named SmolLM, trained by Hugging Face");
  }
}

TEST(ChatTemplate, RefusesUnknownNamesWithTheNearest) {
  const auto chat = ChatTemplate::named("chatlm", {});
  ASSERT_FALSE(chat);
  EXPECT_EQ(chat.error().code, ErrorCode::kConfig);
  EXPECT_THAT(chat.error().line(),
              AllOf(HasSubstr("did you mean \"chatml\""), HasSubstr("alpaca")));
}

TEST(ChatTemplate, RefusesUnknownJinjaAndSaysHowToChoose) {
  for (const char* jinja : {"{{ '<start_of_turn>' + message['content'] }}",
                            "{{ '<|user|>\n' + message['content'] + '<|end|>\n' }}",  // Phi-3
                            "{{ ' [INST] ' + message['content'] + ' [/INST]' }}{{ ' ' + "
                            "message['content'] + eos_token}}"}) {
    const auto chat = ChatTemplate::recognise(jinja, {}, "m/chat_template.jinja");
    ASSERT_FALSE(chat) << jinja;
    EXPECT_EQ(chat.error().code, ErrorCode::kUnsupported);
    EXPECT_THAT(chat.error().line(), AllOf(HasSubstr("m/chat_template.jinja"), HasSubstr("chatml"),
                                           HasSubstr("data.template")));
  }
}

TEST(ChatTemplate, RefusesTurnsATemplateCannotWrite) {
  const std::vector<Message> two_questions{{"user", "1"}, {"user", "2"}};
  EXPECT_FALSE(named("llama2").render(two_questions, false));
  EXPECT_TRUE(named("chatml").render(two_questions, false));
  EXPECT_FALSE(
      named("mistral").render(std::vector<Message>{{"system", "s"}, {"user", "1"}}, false));
  const auto tool = named("chatml").render(std::vector<Message>{{"tool", "{}"}}, false);
  ASSERT_FALSE(tool);
  EXPECT_EQ(tool.error().code, ErrorCode::kData);
}

}  // namespace
}  // namespace strata::text

// `strata tokenize` and `strata data preview` as a shell sees them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/text/tiny_models.h"
#include "support/process.h"

namespace strata {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

support::Finished strata(std::vector<std::string> args, const std::string& input = {}) {
  args.insert(args.begin(), STRATA_BINARY);
  return support::run_program(args, input);
}

class DataCommands : public ::testing::Test {
 protected:
  support::Finished tokenize(const std::string& input, std::vector<std::string> flags = {}) {
    flags.insert(flags.begin(), {"tokenize", "--model", model_.folder().string()});
    return strata(flags, input);
  }
  support::Finished preview(const std::string& records, std::vector<std::string> flags = {}) {
    support::write_file(folder_.path() / "d.jsonl", records);
    flags.insert(flags.begin(), {"data", "preview", "--model", model_.folder().string(), "--data",
                                 (folder_.path() / "d.jsonl").string()});
    return strata(flags);
  }
  text::TinyModel model_{text::tiny_tokenizer_with_start()};
  support::ScratchFolder folder_;
};

TEST_F(DataCommands, TokenizeWritesOneListALineAndDecodeTheStringsBack) {
  const auto encoded = tokenize("\"ab c\"\n\"\\u0041\"\n");
  EXPECT_EQ(encoded.status, 0) << encoded.err;
  EXPECT_EQ(std::count(encoded.out.begin(), encoded.out.end(), '\n'), 2);
  const auto decoded = tokenize(encoded.out, {"--decode"});
  EXPECT_EQ(decoded.status, 0) << decoded.err;
  EXPECT_EQ(decoded.out, "\"ab c\"\n\"A\"\n");
}

TEST_F(DataCommands, SpecialAddsTheStartAndKeepsItWhenDecoding) {
  const auto encoded = tokenize("\"A\"\n", {"--special"});
  EXPECT_EQ(json::parse(encoded.out)[0], 0);
  EXPECT_EQ(tokenize(encoded.out, {"--decode", "--special"}).out, "\"<s>A\"\n");
  EXPECT_EQ(tokenize(encoded.out, {"--decode"}).out, "\"A\"\n");
}

TEST_F(DataCommands, TokenizeNamesTheMalformedLine) {
  for (const char* input : {"\"fine\"\nnot json\n", "\"fine\"\n[1]\n", "\"fine\"\n\"\xff\"\n"}) {
    const auto finished = tokenize(input);
    EXPECT_EQ(finished.status, 7) << input;
    EXPECT_THAT(finished.err, HasSubstr("standard input:2")) << input;
    EXPECT_EQ(std::count(finished.out.begin(), finished.out.end(), '\n'), 1) << input;
  }
  const auto negative = tokenize("[3, -1]\n", {"--decode"});
  EXPECT_EQ(negative.status, 7);
  EXPECT_THAT(negative.err, HasSubstr("entry 1 is -1"));
}

TEST_F(DataCommands, TokenizeInJsonModePrintsOneObject) {
  const auto finished = tokenize("\"A\"\n\"B\"\n", {"--format", "json"});
  EXPECT_EQ(json::parse(finished.out)["data"]["results"].size(), 2u);
}

TEST_F(DataCommands, PreviewMarksWhatIsTrainedWithoutEscapesInAPipe) {
  const auto finished = preview(R"({"q": "2+2=", "a": "4", "user": 1})"
                                "\n",
                                {"--field", "prompt=q", "--field", "completion=a"});
  EXPECT_EQ(finished.status, 0) << finished.err;
  EXPECT_THAT(finished.out, HasSubstr("prompt/completion (keys q, a; also user)"));
  EXPECT_THAT(finished.out, HasSubstr("<s>2+2=[4</s>]"));
  EXPECT_THAT(finished.out, HasSubstr("1 records: 1 kept, 7 tokens, 2 trained"));
  EXPECT_THAT(finished.out, Not(HasSubstr("\x1b")));
}

TEST_F(DataCommands, PreviewInJsonGivesIdsAndLabels) {
  const auto finished = preview(R"({"prompt": "2", "completion": "4"})"
                                "\n",
                                {"--format", "json"});
  const auto record = json::parse(finished.out)["data"]["records"][0];
  EXPECT_EQ(record["input_ids"].size(), 4u);
  EXPECT_EQ(record["labels"][1], -100);
  EXPECT_EQ(record["labels"][2], record["input_ids"][2]);
  EXPECT_EQ(record["labels"][3], 1);
}

TEST_F(DataCommands, PreviewShowsAFileThatCannotBeTrainedOnAndSaysWhy) {
  const auto finished = preview(R"({"prompt": "12345678", "completion": "9"})"
                                "\n",
                                {"--max-length", "4"});
  EXPECT_EQ(finished.status, 0) << finished.err;
  EXPECT_THAT(finished.out, HasSubstr("dropped"));
  EXPECT_THAT(finished.out, HasSubstr("raise max_length above 4"));
}

TEST_F(DataCommands, PreviewRefusesBadRecordsAndTemplatesInOneLine) {
  const auto record = preview("{\"text\": \"a\"}\n{\"text\": 3}\n");
  EXPECT_EQ(record.status, 7);
  EXPECT_THAT(record.err, HasSubstr("d.jsonl:2"));
  EXPECT_EQ(std::count(record.err.begin(), record.err.end(), '\n'), 1);
  const auto chat = preview("{\"text\": \"a\"}\n", {"--template", "chatlm"});
  EXPECT_EQ(chat.status, 3);
  EXPECT_THAT(chat.err, HasSubstr("chatml"));
}

}  // namespace
}  // namespace strata

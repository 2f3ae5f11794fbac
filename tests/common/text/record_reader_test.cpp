#include "text/record_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/process.h"

namespace strata::text {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class RecordReaderTest : public ::testing::Test {
 protected:
  Result<RecordFile> read(const std::string& content, const FieldMap& map = {}) {
    support::write_file(folder_.path() / "data.jsonl", content);
    return read_records(*disk_, folder_.path() / "data.jsonl", map);
  }

  RecordFile good(const std::string& content, const FieldMap& map = {}) {
    auto file = read(content, map);
    EXPECT_TRUE(file) << file.error().line();
    return file ? std::move(*file) : RecordFile{};
  }

  // The error of a content that must be refused, checked to be the file's fault.
  std::string refusal(const std::string& content) {
    const auto file = read(content);
    if (file) return "accepted";
    EXPECT_EQ(file.error().code, ErrorCode::kData);
    return file.error().line();
  }

  support::ScratchFolder folder_;
  std::unique_ptr<sys::Disk> disk_ = sys::make_posix_disk();
};

const Dialogue& dialogue(const Record& record) { return std::get<Dialogue>(record.content); }

TEST_F(RecordReaderTest, ReadsTextsAndKeepsOtherScalarsAsStrings) {
  const auto file = good(R"({"text": "one", "category": "a", "n": 3, "ok": true, "list": [1]})"
                         "\n"
                         R"({"text": "two"})");
  ASSERT_EQ(file.records.size(), 2u);
  EXPECT_EQ(std::get<PlainText>(file.records[0].content).text, "one");
  EXPECT_EQ(file.records[0].field("category"), "a");
  EXPECT_EQ(file.records[0].field("n"), "3");
  EXPECT_EQ(file.records[0].field("ok"), "true");
  EXPECT_EQ(file.records[0].field("list"), std::nullopt);
  EXPECT_THAT(file.records[1].source, HasSubstr("data.jsonl:2"));
  EXPECT_EQ(file.detection.describe(), "text (keys text; also category, n, ok)");
}

TEST_F(RecordReaderTest, ReadsMessagesAndTheListOfTextPartsSomeToolsWrite) {
  const auto file = good(
      R"({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", )"
      R"("text": "u"}]}, {"role": "assistant", "content": "a"}]})");
  EXPECT_EQ(file.detection.kind, RecordKind::kMessages);
  EXPECT_THAT(dialogue(file.records[0]).messages,
              ElementsAre(Message{"system", "s"}, Message{"user", "u"}, Message{"assistant", "a"}));
}

TEST_F(RecordReaderTest, GivesShareGptSpeakersTheirRoles) {
  const auto file = good(
      R"({"system": "be kind", "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]})");
  EXPECT_THAT(
      dialogue(file.records[0]).messages,
      ElementsAre(Message{"system", "be kind"}, Message{"user", "q"}, Message{"assistant", "a"}));
}

TEST_F(RecordReaderTest, ReadsPairsOfStringsAndOfMessageLists) {
  const auto strings = good(R"({"prompt": "p", "completion": " c"})");
  EXPECT_EQ(std::get<Pair>(strings.records[0].content).prompt, "p");
  EXPECT_EQ(std::get<Pair>(strings.records[0].content).completion, " c");
  const auto lists = good(
      R"({"prompt": [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}, )"
      R"({"role": "user", "content": "3"}], "completion": [{"role": "assistant", "content": "4"}]})");
  EXPECT_EQ(dialogue(lists.records[0]).messages.size(), 4u);
  EXPECT_EQ(dialogue(lists.records[0]).first_trained, 3u);
}

TEST_F(RecordReaderTest, ReadsInstructionsWhoseInputMayBeAbsentOrNull) {
  const auto file = good(R"({"instruction": "i", "input": "x", "output": "o"})"
                         "\n"
                         R"({"instruction": "i", "input": null, "output": "o"})"
                         "\n"
                         R"({"instruction": "i", "output": "o"})");
  EXPECT_EQ(std::get<Instruction>(file.records[0].content).input, "x");
  EXPECT_EQ(std::get<Instruction>(file.records[1].content).input, "");
  EXPECT_EQ(std::get<Instruction>(file.records[2].content).input, "");
}

TEST_F(RecordReaderTest, TurnsLabelsOfMinusHundredIntoMarks) {
  const auto file = good(R"({"input_ids": [5, 6, 7], "labels": [-100, 6, -100]})"
                         "\n"
                         R"({"input_ids": [1]})");
  EXPECT_THAT(std::get<Tokens>(file.records[0].content).ids, ElementsAre(5, 6, 7));
  EXPECT_THAT(std::get<Tokens>(file.records[0].content).trained, ElementsAre(0, 1, 0));
  EXPECT_THAT(std::get<Tokens>(file.records[1].content).trained, ElementsAre(1));
}

TEST_F(RecordReaderTest, AFieldMapRenamesKeysAndDecidesTheKind) {
  const FieldMap map{{"prompt", "input"}, {"completion", "target"}};
  const auto file = good(R"({"input": "not True is", "target": "False", "task": "bool"})", map);
  EXPECT_EQ(file.detection.kind, RecordKind::kPair);
  EXPECT_EQ(std::get<Pair>(file.records[0].content).completion, "False");
  EXPECT_EQ(file.records[0].field("task"), "bool");
  EXPECT_EQ(file.records[0].field("target"), std::nullopt);
}

TEST_F(RecordReaderTest, RefusesAFieldMapOfUnknownNamesOrOfNoKind) {
  const auto unknown = read(R"({"a": "b"})", {{"promt", "a"}, {"completion", "a"}});
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().code, ErrorCode::kConfig);
  EXPECT_THAT(unknown.error().line(), HasSubstr("did you mean \"prompt\""));
  const auto half = read(R"({"a": "b"})", {{"prompt", "a"}});
  ASSERT_FALSE(half);
  EXPECT_EQ(half.error().code, ErrorCode::kConfig);
}

TEST_F(RecordReaderTest, ToleratesByteOrderMarkBlankLinesCarriageReturnsAndNoFinalNewline) {
  const auto file = good(
      "\xEF\xBB\xBF"
      R"({"text": "one"})"
      "\r\n\r\n   \n"
      R"(  {"text": "two"})");
  ASSERT_EQ(file.records.size(), 2u);
  EXPECT_EQ(std::get<PlainText>(file.records[1].content).text, "two");
  EXPECT_THAT(file.records[1].source, HasSubstr(":4"));
}

TEST_F(RecordReaderTest, ReadsAJsonArrayWithTheLineOfEachElement) {
  const auto file = good("[\n  {\"text\": \"a ] } \\\" [\"},\n\n  {\n \"text\":\n \"b\"}\n]\n");
  ASSERT_EQ(file.records.size(), 2u);
  EXPECT_EQ(std::get<PlainText>(file.records[0].content).text, "a ] } \" [");
  EXPECT_THAT(file.records[1].source, HasSubstr(":4"));
}

TEST_F(RecordReaderTest, NamesLineAndExpectationForWhatIsNotARecord) {
  const std::string fine = R"({"text": "a"})"
                           "\n";
  EXPECT_THAT(refusal(fine + "{\"text\": \"b\"\n"),
              AllOf(HasSubstr("data.jsonl:2"), HasSubstr("one whole JSON object")));
  EXPECT_THAT(refusal(fine + "\"b\"\n"), AllOf(HasSubstr("data.jsonl:2"), HasSubstr("string")));
  EXPECT_THAT(refusal(fine + "{\"txet\": \"b\"}\n"),
              AllOf(HasSubstr("data.jsonl:2"), HasSubstr("no key \"text\"")));
  EXPECT_THAT(refusal(fine + "{\"text\": null}\n"), HasSubstr("text is null"));
  EXPECT_THAT(refusal(fine + "{\"text\": 3}\n"),
              AllOf(HasSubstr("text is 3"), HasSubstr("it is a string")));
  EXPECT_THAT(refusal(fine + "{\"text\": \"\\ud800\"}\n"), HasSubstr("data.jsonl:2"));
  EXPECT_THAT(refusal(fine + "{\"text\": \"b\", \"n\": 1e999}\n"),
              AllOf(HasSubstr("data.jsonl:2"), HasSubstr("1e999")));
  EXPECT_THAT(refusal("{\"question\": \"b\", \"answer\": \"c\"}\n"),
              AllOf(HasSubstr("answer, question"), HasSubstr("data.fields")));
}

TEST_F(RecordReaderTest, NamesTheByteThatIsNotUtf8) {
  EXPECT_THAT(refusal("{\"text\": \"a\"}\n{\"text\": \"caf\xE9\"}\n"),
              AllOf(HasSubstr("data.jsonl:2"), HasSubstr("byte 14 of the record, 0xE9"),
                    HasSubstr("UTF-8")));
  EXPECT_THAT(refusal(std::string("\xFF\xFE{\0", 4)), HasSubstr("0xFF"));
  EXPECT_THAT(refusal("[{\n\"text\": \"\xC0\xAF\"}]"),
              HasSubstr("data.jsonl:2"));  // an overlong form
}

TEST_F(RecordReaderTest, RefusesDeepNestingWithoutFollowingIt) {
  const std::string deep =
      "{\"text\": \"a\", \"x\": " + std::string(100000, '[') + std::string(100000, ']') + "}";
  EXPECT_THAT(refusal(deep + "\n"),
              AllOf(HasSubstr("nested 100001 levels deep"), HasSubstr("at most 64")));
  EXPECT_THAT(refusal("[" + deep + "]"), HasSubstr("nested"));
}

TEST_F(RecordReaderTest, RefusesDamagedArrays) {
  EXPECT_THAT(refusal("[{\"text\": \"a\"}"), HasSubstr("not closed"));
  EXPECT_THAT(refusal("[{\"text\": \"a\"}\n{\"text\": \"b\"}]"),
              AllOf(HasSubstr(":2"), HasSubstr("separated by commas")));
  EXPECT_THAT(refusal("[{\"text\": \"a\"},]"), HasSubstr("where an element"));
  EXPECT_THAT(refusal("[{\"text\": \"a\"}] x"), HasSubstr("after the JSON array"));
  EXPECT_THAT(refusal("[{\"text\": \"a\"}, {\"text\""), HasSubstr("not closed"));
  EXPECT_THAT(refusal("[1]"), HasSubstr("each element is a JSON object"));
}

TEST_F(RecordReaderTest, RefusesFilesWithoutRecords) {
  EXPECT_THAT(refusal(""), HasSubstr("no record"));
  EXPECT_THAT(refusal("\n \r\n"), HasSubstr("no record"));
  EXPECT_THAT(refusal("[]"), HasSubstr("no record"));
  const auto missing = read_records(*disk_, folder_.path() / "nowhere.jsonl");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kFileMissing);
}

TEST_F(RecordReaderTest, RefusesMessagesThatAreNone) {
  EXPECT_THAT(refusal(R"({"messages": "hello"})"), HasSubstr("list of messages"));
  EXPECT_THAT(refusal(R"({"messages": []})"), HasSubstr("messages is empty"));
  EXPECT_THAT(refusal(R"({"messages": [{"role": "user"}]})"),
              HasSubstr("messages[0] is not a message"));
  EXPECT_THAT(refusal(R"({"messages": [{"role": "robot", "content": "x"}]})"),
              AllOf(HasSubstr("\"robot\""), HasSubstr("assistant")));
  EXPECT_THAT(refusal(R"({"messages": [{"role": "user", "content": 7}]})"),
              HasSubstr("messages[0].content is 7"));
  EXPECT_THAT(refusal(R"({"prompt": "a", "completion": [{"role": "assistant", "content": "x"}]})"),
              HasSubstr("a string and a list"));
}

TEST_F(RecordReaderTest, RefusesIdsAndLabelsThatDoNotFit) {
  EXPECT_THAT(refusal(R"({"input_ids": "1 2"})"), HasSubstr("list of whole numbers"));
  EXPECT_THAT(refusal(R"({"input_ids": [1.5]})"), HasSubstr("input_ids[0] is 1.5"));
  EXPECT_THAT(refusal(R"({"input_ids": [1, -3]})"), HasSubstr("-3"));
  EXPECT_THAT(refusal(R"({"input_ids": [99999999999]})"), HasSubstr("32 bits"));
  EXPECT_THAT(refusal(R"({"input_ids": [1, 2], "labels": [1]})"), HasSubstr("1 labels for 2 ids"));
  EXPECT_THAT(refusal(R"({"input_ids": [1, 2], "labels": [2, -100]})"), HasSubstr("not shifted"));
}

TEST_F(RecordReaderTest, StreamsOneRecordAtATime) {
  support::write_file(folder_.path() / "data.jsonl", R"({"text": "one"})"
                                                     "\n"
                                                     R"({"text": 2})"
                                                     "\n");
  auto reader = RecordReader::open(*disk_, folder_.path() / "data.jsonl", {});
  ASSERT_TRUE(reader);
  const auto first = reader->next();
  ASSERT_TRUE(first && *first);  // given out before the damaged second line is looked at
  EXPECT_FALSE(reader->next());
  EXPECT_TRUE(reader->next());  // at the end now
}

}  // namespace
}  // namespace strata::text

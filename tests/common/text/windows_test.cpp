#include "text/windows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/text/tiny_models.h"

namespace strata::text {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

using Ids = std::vector<TokenId>;

class WindowsTest : public testing::Test {
 protected:
  std::filesystem::path write(const std::string& name, const std::string& text) {
    auto path = folder_.path() / name;
    std::filesystem::create_directories(path.parent_path());
    support::write_file(path, text);
    return path;
  }
  std::vector<Record> records(const TinyModel& model, const std::filesystem::path& input,
                              std::size_t length) {
    return read_windows(*disk_, input, load_model_text(*disk_, model.folder()).value(), length)
        .value();
  }
  static const Ids& ids(const Record& record) { return std::get<Tokens>(record.content).ids; }
  Ids encoded(const TinyModel& model, const std::string& text, bool special) {
    return Tokenizer::load(*disk_, model.folder())->encode(text, special).value();
  }

  support::ScratchFolder folder_;
  std::unique_ptr<sys::Disk> disk_ = sys::make_posix_disk();
};

TEST_F(WindowsTest, DocumentsStandOneBehindAnotherAndAreCutWhereARecordIsFull) {
  const TinyModel model(tiny_tokenizer());
  write("c/a.txt", "ab c\n");
  write("c/b.jsonl", R"({"text":"abab"})");
  const auto end = encoded(model, "</s>", false);
  ASSERT_THAT(end, SizeIs(1));
  Ids stream = encoded(model, "ab c\n", false);
  stream.push_back(end[0]);
  for (const TokenId id : encoded(model, "abab", false)) stream.push_back(id);
  stream.push_back(end[0]);
  ASSERT_EQ(stream.size(), 8u);
  const auto out = records(model, folder_.path() / "c", 5);
  ASSERT_THAT(out, SizeIs(2));
  EXPECT_EQ(ids(out[0]), Ids(stream.begin(), stream.begin() + 5));
  EXPECT_EQ(ids(out[1]), Ids(stream.begin() + 5, stream.end()));
  EXPECT_THAT(std::get<Tokens>(out[1].content).trained, ElementsAre(1, 1, 1));
  EXPECT_THAT(out[1].source, HasSubstr("c: tokens 6 to 8"));
  EXPECT_THAT(records(model, folder_.path() / "c", 7), SizeIs(1)) << "a single id is left over";
}

TEST_F(WindowsTest, TheTokenizersOwnStartAndEndAreThereOnce) {
  auto json = tiny_tokenizer_with_start();
  const TinyModel start(json);
  const auto text = write("a.txt", "c");
  EXPECT_THAT(records(start, text, 9), SizeIs(1));
  EXPECT_EQ(ids(records(start, text, 9)[0]), encoded(start, "<s>c</s>", false));
  json["post_processor"]["single"].push_back({{"SpecialToken", {{"id", "</s>"}, {"type_id", 0}}}});
  json["post_processor"]["special_tokens"]["</s>"] = {
      {"id", "</s>"}, {"ids", {1}}, {"tokens", {"</s>"}}};
  const TinyModel both(json);
  EXPECT_EQ(ids(records(both, text, 9)[0]), encoded(both, "c", true));
  EXPECT_THAT(encoded(both, "c", true), SizeIs(3));
}

TEST_F(WindowsTest, LongDocumentsAreCutAtLineBreaksOrNotAtAll) {
  const TinyModel model(tiny_tokenizer());
  std::string lines, line;
  while (lines.size() < (std::size_t{5} << 19)) lines += "ab cab!\n";  // two pieces and a half
  while (line.size() < (std::size_t{3} << 19)) line += " ab";
  for (const std::string& text : {lines, line, line + "\n" + lines}) {
    Ids stream;
    for (const auto& record : records(model, write("long.txt", text), 1000))
      stream.insert(stream.end(), ids(record).begin(), ids(record).end());
    Ids whole = encoded(model, text, false);
    whole.push_back(encoded(model, "</s>", false)[0]);
    EXPECT_TRUE(stream == whole) << stream.size() << " and " << whole.size();
  }
}

TEST_F(WindowsTest, ErrorsNameTheFile) {
  const TinyModel model(tiny_tokenizer());
  const auto text = load_model_text(*disk_, model.folder()).value();
  const auto bad = read_windows(*disk_, write("a.txt", "a\xff"), text, 8);
  ASSERT_FALSE(bad);
  EXPECT_THAT(bad.error().line(), HasSubstr("a.txt:1"));
}

}  // namespace
}  // namespace strata::text

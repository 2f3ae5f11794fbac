// A tokenizer learnt on the command line.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "federation.h"

namespace strata::cli {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

class TokenizerTrain : public testing::Test {
 protected:
  TokenizerTrain() {
    fs::create_directories(corpus() / "below");
    write_file(corpus() / "one.txt", "low low lower lowest\n");
    write_file(corpus() / "below/two.jsonl",
               "{\"text\":\"newer wider\"}\n{\"text\":\"new low\"}\n");
  }
  [[nodiscard]] fs::path corpus() const { return scratch_.path() / "corpus"; }
  [[nodiscard]] fs::path out() const { return scratch_.path() / "out"; }

  [[nodiscard]] Finished train(std::vector<std::string> args) const {
    args.insert(args.begin(), {"tokenizer", "train", "-o", out()});
    return strata(std::move(args));
  }
  /// What must be one line with the fragment, and leave no folder.
  void expect_refused(const std::vector<std::string>& args, int status,
                      const std::string& fragment) const {
    const Finished finished = train(args);
    EXPECT_EQ(finished.status, status) << finished.err;
    EXPECT_THAT(finished.err, HasSubstr(fragment));
    EXPECT_EQ(std::count(finished.err.begin(), finished.err.end(), '\n'), 1) << finished.err;
    EXPECT_FALSE(fs::exists(out()));
  }

  ScratchFolder scratch_;
};

TEST_F(TokenizerTrain, SaysWhatItLearntAndTheReaderTakesIt) {
  const Finished done = train({"--format", "json", "--special-token", "<pad>", corpus()});
  ASSERT_EQ(done.status, 0) << done.out;
  const json data = json::parse(done.out).at("data");
  EXPECT_EQ(data.at("files"), 2);
  EXPECT_EQ(data.at("documents"), 3);
  EXPECT_EQ(data.at("bytes"), 21 + 11 + 7);
  EXPECT_EQ(data.at("special_tokens"), 2);
  EXPECT_EQ(data.at("distinct_words"), 8);
  EXPECT_EQ(data.at("vocab_size"), 258 + data.at("merges").get<int>());
  EXPECT_DOUBLE_EQ(data.at("bytes_per_token").get<double>(), 39.0 / data.at("tokens").get<int>());

  const Finished ids = strata({"tokenize", "--model", out()}, "\"<|endoftext|> low<pad>\"\n");
  ASSERT_EQ(ids.status, 0) << ids.err;
  const json list = json::parse(ids.out);
  ASSERT_THAT(list, SizeIs(3)) << ids.out;
  EXPECT_EQ(list.front(), 0);
  EXPECT_EQ(list.back(), 1);
  const json config = json::parse(read_file(out() / "tokenizer_config.json"));
  EXPECT_EQ(config.at("eos_token"), "<|endoftext|>");
  EXPECT_EQ(config.at("bos_token"), "<|endoftext|>");
}

TEST_F(TokenizerTrain, DependsOnTheTextsOnly) {
  const fs::path one = corpus() / "one.txt", two = corpus() / "below/two.jsonl";
  ASSERT_EQ(train({one, two, "--threads", "1"}).status, 0);
  const std::string first = read_file(out() / "tokenizer.json");
  ASSERT_EQ(train({two, one, "--threads", "2", "--force"}).status, 0);
  EXPECT_EQ(read_file(out() / "tokenizer.json"), first);
  ASSERT_EQ(train({one, "--force"}).status, 0);
  EXPECT_NE(read_file(out() / "tokenizer.json"), first);
}

TEST_F(TokenizerTrain, AFinishedFolderIsReplacedOnlyWhenAsked) {
  fs::create_directories(out());
  write_file(out() / "kept.txt", "mine");
  const Finished refused = train({corpus()});
  EXPECT_EQ(refused.status, 1);
  EXPECT_THAT(refused.err, HasSubstr("--force"));
  EXPECT_EQ(read_file(out() / "kept.txt"), "mine");
  EXPECT_FALSE(fs::exists(out() / "tokenizer.json"));
  EXPECT_EQ(train({corpus(), "--force"}).status, 0);
  EXPECT_FALSE(fs::exists(out() / "kept.txt"));
}

TEST_F(TokenizerTrain, BadInputGetsOneLineAndLeavesNothing) {
  const fs::path bad = scratch_.path() / "bad.txt", empty = scratch_.path() / "empty.txt";
  write_file(bad, "fine\nnot\xff fine\n");
  write_file(empty, "");
  expect_refused({bad}, 7, "bad.txt:2: byte 9 of the file, 0xFF, is not UTF-8");
  expect_refused({empty}, 7, "the text is empty");
  expect_refused({scratch_.path() / "absent"}, 7, "absent");
  expect_refused({corpus(), "--vocab-size", "256"}, 2, "at least 257");
  expect_refused({corpus(), "--special-token", ""}, 2, "special token");
  expect_refused({corpus(), "--field", "text"}, 2, "NAME=KEY");
  expect_refused({corpus(), "--field", "text=body"}, 7, "two.jsonl:1");
}

}  // namespace
}  // namespace strata::cli

// What a newcomer meets first: every command explains itself, and its example is a real one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

#include "cli/verb.h"
#include "federation.h"

namespace strata::cli {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

std::vector<std::string> words_of(std::string_view text) {
  std::istringstream in{std::string(text)};
  std::vector<std::string> out;
  for (std::string word; in >> word;) out.push_back(word);
  return out;
}

TEST(Help, OfTheProgramListsEveryCommand) {
  const Finished help = strata({"--help"});
  EXPECT_EQ(help.status, 0);
  for (const Verb& verb : all_verbs()) {
    const auto words = words_of(verb.name);
    EXPECT_THAT(help.out, HasSubstr("\n  " + words[0] + " "));
    if (words.size() == 1) continue;
    EXPECT_THAT(strata({words[0], "--help"}).out, HasSubstr("\n  " + words[1] + " "));
  }
}

TEST(Help, OfEachCommandSaysWhatItDoesAndEndsWithAnExample) {
  for (const Verb& verb : all_verbs()) {
    auto args = words_of(verb.name);
    args.emplace_back("--help");
    const Finished help = strata(args);
    EXPECT_EQ(help.status, 0) << verb.name;
    EXPECT_THAT(help.err, IsEmpty()) << verb.name;
    EXPECT_THAT(help.out, StartsWith(std::string(verb.help))) << verb.name;
    EXPECT_THAT(help.out, HasSubstr("Example:\n  " + std::string(verb.example))) << verb.name;
  }
}

TEST(Help, ExamplesUseTheCommandAndFlagsItHas) {
  for (const Verb& verb : all_verbs()) {
    EXPECT_THAT(std::string(verb.example), HasSubstr("strata " + std::string(verb.name)));
    auto args = words_of(verb.name);
    args.emplace_back("--help");
    const std::string help = strata(args).out;
    const std::string options = help.substr(0, help.find("\nExample:"));
    for (const auto& word : words_of(verb.example)) {
      if (!word.starts_with("-")) continue;
      EXPECT_THAT(options, HasSubstr(word)) << verb.name;
    }
  }
}

TEST(Help, VersionNamesTheProgram) {
  const Finished version = strata({"--version"});
  EXPECT_EQ(version.status, 0);
  EXPECT_THAT(version.out, StartsWith("strata "));
}

TEST(UnknownWords, NameTheNearestCommandOrFlag) {
  EXPECT_THAT(strata({"evla"}).err, HasSubstr("did you mean `strata eval`?"));
  EXPECT_THAT(strata({"eval", "--modle", "x"}).err, HasSubstr("did you mean --model?"));
  EXPECT_THAT(strata({"bnech", "train"}).err, HasSubstr("did you mean `strata bench`?"));
}

// "A subcommand is required" was all that was said.
TEST(Regression, AnUnknownWordAfterANounWasNotNamed) {
  const Finished finished = strata({"data", "prevew", "--model", "x"});
  EXPECT_EQ(finished.status, 2);
  EXPECT_THAT(finished.err, HasSubstr("\"data prevew\" is not a command"));
  EXPECT_THAT(finished.err, HasSubstr("did you mean `strata data preview`?"));
}

}  // namespace
}  // namespace strata::cli

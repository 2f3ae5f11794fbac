#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/config/kitchen.h"

namespace strata::config {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::Pair;
using testing::StartsWith;

/// The one line of a refusal; what the program would print.
std::string refusal(std::string_view json, const std::vector<std::string>& overrides = {}) {
  const auto kitchen = read_kitchen(json, overrides);
  if (kitchen) return "accepted";
  EXPECT_EQ(kitchen.error().code, ErrorCode::kConfig);
  std::string line = kitchen.error().line();
  EXPECT_EQ(line.find('\n'), std::string::npos) << line;
  return line;
}

TEST(Reader, LeavesDefaultsWhereTheFileIsSilent) {
  const auto kitchen = read_kitchen("{}");
  ASSERT_TRUE(kitchen) << kitchen.error().line();
  EXPECT_EQ(kitchen->ovens, 2);
  EXPECT_EQ(kitchen->fuel, "gas");
  EXPECT_THAT(kitchen->tools, ElementsAre("knife"));
}

TEST(Reader, PatternsKeepTheOrderOfTheFile) {
  const auto kitchen = read_kitchen(R"({"spoons": {"z": 1, "a": 2, "m": 3}})");
  ASSERT_TRUE(kitchen);
  EXPECT_THAT(kitchen->spoons, ElementsAre(Pair("z", 1), Pair("a", 2), Pair("m", 3)));
}

TEST(Reader, ReadsEveryKindOfField) {
  const auto kitchen = read_kitchen(
      R"({"$schema": "schema.json", "version": 1, "ovens": 3, "heat": 1, "open": false, "motto": "Ä",
      "fuel": "wood", "tools": ["a", "b"], "spoons": {"top": 7}, "weights": {"x": 0.25},
      "cellar": {"shelves": 9, "wine": "red"}, "cooks": [{"name": "Ida"}, {"name": "Bo", "age": 41}]})");
  ASSERT_TRUE(kitchen) << kitchen.error().line();
  EXPECT_EQ(kitchen->ovens, 3);
  EXPECT_EQ(kitchen->heat, 1.0);
  EXPECT_FALSE(kitchen->open);
  EXPECT_EQ(kitchen->motto, "Ä");
  EXPECT_EQ(kitchen->fuel, "wood");
  EXPECT_THAT(kitchen->tools, ElementsAre("a", "b"));
  EXPECT_THAT(kitchen->spoons, ElementsAre(Pair("top", 7)));
  EXPECT_THAT(kitchen->weights, ElementsAre(Pair("x", 0.25)));
  EXPECT_EQ(kitchen->shelves, 9);
  ASSERT_EQ(kitchen->cooks.size(), 2u);
  EXPECT_EQ(kitchen->cooks[0].age, 30);
  EXPECT_EQ(kitchen->cooks[1].name, "Bo");
}

TEST(Reader, TakesANumberOrTheWordForNone) {
  const auto given = read_kitchen(R"({"salt": 0.5, "timer": 3})");
  ASSERT_TRUE(given) << given.error().line();
  EXPECT_EQ(given->salt, 0.5);
  EXPECT_EQ(given->timer, 3.0);
  EXPECT_EQ(read_kitchen(R"({"timer": "never"})")->timer, std::nullopt);
  EXPECT_EQ(read_kitchen("{}")->salt, std::nullopt);
  EXPECT_EQ(refusal(R"({"salt": 2})"),
            "jobs/kitchen.json: salt: is 2; must be a number above 0 and at most 1");
  EXPECT_EQ(refusal(R"({"salt": "never"})"),
            "jobs/kitchen.json: salt: is \"never\"; must be a number above 0 and at most 1");
  EXPECT_EQ(refusal(R"({"timer": "often"})"),
            "jobs/kitchen.json: timer: is \"often\"; must be a number at least 0, or \"never\"");
}

TEST(Reader, AllowsComments) {
  EXPECT_TRUE(read_kitchen("{ // two\n \"ovens\": 2 /* really */ }"));
}

TEST(Reader, ResolvesRelativePathsFromTheFolderOfTheFile) {
  EXPECT_EQ(read_kitchen(R"({"recipes": "../soups"})")->recipes, "soups");
  EXPECT_EQ(read_kitchen(R"({"recipes": "soups/x"})")->recipes, "jobs/soups/x");
  EXPECT_EQ(read_kitchen(R"({"recipes": "/soups"})")->recipes, "/soups");
  EXPECT_EQ(read_kitchen(R"({"recipes": ""})")->recipes, "");
}

TEST(Reader, TakesOneStringForAListOfStrings) {
  EXPECT_THAT(read_kitchen(R"({"tools": "whisk"})")->tools, ElementsAre("whisk"));
  EXPECT_THAT(read_kitchen(R"({"tools": "whisk,spoon"})")->tools, ElementsAre("whisk", "spoon"));
}

TEST(Reader, NamesTheFileTheKeyTheValueAndTheRule) {
  EXPECT_EQ(refusal(R"({"ovens": 12})"),
            "jobs/kitchen.json: ovens: is 12; must be a whole number at least 1 and at most 9");
  EXPECT_THAT(refusal(R"({"cooks": [{"name": "Ida"}, {"name": "Bo", "age": 3}]})"),
              StartsWith("jobs/kitchen.json: cooks[1].age: is 3;"));
  EXPECT_THAT(refusal(R"({"cellar": {"wine": 7}})"),
              StartsWith("jobs/kitchen.json: cellar.wine: is 7;"));
  EXPECT_THAT(refusal(R"({"spoons": {"top": 1.5}})"),
              StartsWith("jobs/kitchen.json: spoons.top: is 1.5;"));
}

class WrongType : public testing::TestWithParam<std::pair<std::string, std::string>> {};

TEST_P(WrongType, IsRefusedByKey) {
  const auto& [key, json] = GetParam();
  EXPECT_THAT(refusal(json), StartsWith("jobs/kitchen.json: " + key + ": is "));
}

INSTANTIATE_TEST_SUITE_P(
    Reader, WrongType,
    testing::Values(
        std::pair{"ovens", R"({"ovens": 3.0})"}, std::pair{"ovens", R"({"ovens": "3"})"},
        std::pair{"ovens", R"({"ovens": null})"},
        std::pair{"ovens", R"({"ovens": 9223372036854775808})"},
        std::pair{"ovens", R"({"ovens": 99999999999999999999999})"},
        std::pair{"ovens", R"({"ovens": true})"}, std::pair{"heat", R"({"heat": "hot"})"},
        std::pair{"heat", R"({"heat": 0})"}, std::pair{"heat", R"({"heat": 1.0000001})"},
        std::pair{"open", R"({"open": 1})"}, std::pair{"motto", R"({"motto": []})"},
        std::pair{"recipes", R"({"recipes": 1})"}, std::pair{"fuel", R"({"fuel": 1})"},
        std::pair{"tools", R"({"tools": [1]})"}, std::pair{"tools", R"({"tools": {}})"},
        std::pair{"spoons", R"({"spoons": []})"}, std::pair{"cellar", R"({"cellar": 1})"},
        std::pair{"cooks", R"({"cooks": {}})"}, std::pair{"cooks[0]", R"({"cooks": [1]})"},
        std::pair{"version", R"({"version": 2})"}));

TEST(Reader, RefusesUnknownKeysWithTheNearestKnown) {
  EXPECT_THAT(refusal(R"({"ovnes": 3})"),
              HasSubstr("ovnes: is not a known key; known keys: ovens heat"));
  EXPECT_THAT(refusal(R"({"ovnes": 3})"), HasSubstr("did you mean \"ovens\"?"));
  EXPECT_THAT(refusal(R"({"cellar": {"wine": "red", "shelfs": 3}})"),
              HasSubstr("cellar.shelfs: is not a known key"));
  EXPECT_THAT(refusal(R"({"temperature_of_the_water": 3})"), Not(HasSubstr("did you mean")));
  EXPECT_THAT(refusal(R"({"cooks": [{"name": "Ida", "version": 1}]})"),
              HasSubstr("cooks[0].version: is not a known key"));
}

TEST(Reader, RefusesUnknownChoicesWithTheNearestKnown) {
  EXPECT_EQ(refusal(R"({"fuel": "wod"})"),
            "jobs/kitchen.json: fuel: is \"wod\"; must be one of: gas wood induction; did you mean "
            "\"wood\"?");
}

TEST(Reader, AsksForRequiredKeysOnlyOfSectionsThatAreThere) {
  EXPECT_THAT(refusal(R"({"cellar": {}})"), HasSubstr("cellar.wine: is missing"));
  EXPECT_THAT(refusal(R"({"cooks": [{"name": "Ida"}, {}]})"),
              HasSubstr("cooks[1].name: is missing"));
  EXPECT_EQ(refusal("{}"), "accepted");
}

TEST(Reader, RefusesKeysGivenTwiceWhereverTheyStand) {
  EXPECT_THAT(refusal(R"({"ovens": 1, "ovens": 2})"),
              StartsWith("jobs/kitchen.json: ovens: is given twice"));
  EXPECT_THAT(refusal(R"({"cooks": [{"name": "a"}, {"name": "b", "age": 20, "name": "c"}]})"),
              StartsWith("jobs/kitchen.json: cooks[1].name: is given twice"));
  EXPECT_THAT(refusal(R"({"cellar": {"wine": "a"}, "tools": ["x", ["y"], {"a": 1, "a": 1}]})"),
              StartsWith("jobs/kitchen.json: tools[2].a: is"));
}

TEST(Reader, SaysWhereTheFileIsNotJson) {
  EXPECT_THAT(refusal("{\n  \"ovens\": 1,\n}"),
              StartsWith("jobs/kitchen.json:3:1: is not valid JSON: syntax error"));
  EXPECT_THAT(refusal(""), StartsWith("jobs/kitchen.json:1:1: is not valid JSON"));
  EXPECT_THAT(refusal("{\"heat\": 1e999}"), HasSubstr("is not valid JSON: number overflow"));
  EXPECT_THAT(refusal("{\"heat\": NaN}"), HasSubstr("is not valid JSON"));
  EXPECT_THAT(refusal("{\"motto\": \"\xff\"}"), HasSubstr("is not valid JSON"));
  EXPECT_EQ(refusal("[1]"), "jobs/kitchen.json: is [1]; must be an object {...}");
}

TEST(Reader, RefusesDeepNesting) {
  const std::string deep = std::string(100000, '[') + std::string(100000, ']');
  EXPECT_THAT(refusal("{\"motto\": " + deep + "}"), HasSubstr("is nested too deeply"));
}

TEST(Reader, RefusesMoreThanAnyJobSays) {
  std::string many = "{\"cooks\": [";
  for (int i = 0; i < 1'000'000; ++i) many += "[],";
  EXPECT_THAT(refusal(many + "[]]}"), HasSubstr("at most 1000000 keys and values"));
  EXPECT_THAT(refusal("{\"motto\": \"" + std::string(65537, 'x') + "\"}"),
              HasSubstr("motto: is a text of 65537 bytes; at most 65536"));
  EXPECT_THAT(refusal("{\"" + std::string(65537, 'x') + "\": 1}"),
              HasSubstr("is a text of 65537 bytes"));
}

TEST(Overrides, WinOverTheFile) {
  const auto kitchen =
      read_kitchen(R"({"ovens": 3, "cooks": [{"name": "Ida"}]})",
                   {"ovens=4", "motto=two words", "cellar.wine=white", "cooks[0].age=50",
                    "cooks.0.name=Eva", "open=false", "tools=[\"pan\"]", "ovens=5"});
  ASSERT_TRUE(kitchen) << kitchen.error().line();
  EXPECT_EQ(kitchen->ovens, 5);
  EXPECT_EQ(kitchen->motto, "two words");
  EXPECT_EQ(kitchen->cellar_wine, "white");
  EXPECT_EQ(kitchen->cooks[0].age, 50);
  EXPECT_EQ(kitchen->cooks[0].name, "Eva");
  EXPECT_FALSE(kitchen->open);
  EXPECT_THAT(kitchen->tools, ElementsAre("pan"));
}

TEST(Overrides, HoldPathsFromTheCurrentFolder) {
  EXPECT_EQ(read_kitchen(R"({"recipes": "soups"})", {"recipes=pies"})->recipes, "pies");
}

TEST(Overrides, AreHeldToTheSameRulesAndNamedInRefusals) {
  EXPECT_THAT(refusal("{}", {"ovens=many"}),
              StartsWith("--set ovens: is \"many\"; must be a whole number"));
  EXPECT_THAT(refusal("{}", {"cellar.whine=red"}),
              StartsWith("--set cellar.whine: is not a known key"));
  EXPECT_THAT(refusal("{}", {"cellar={\"wine\": 1}"}), StartsWith("--set cellar.wine: is 1"));
  EXPECT_THAT(refusal(R"({"ovens": 10})", {"heat=0.5"}),
              StartsWith("jobs/kitchen.json: ovens: is 10"));
}

TEST(Overrides, ThatNameNoPlaceAreRefused) {
  EXPECT_THAT(refusal("{}", {"ovens"}),
              StartsWith("--set ovens: has no value; write --set section.key=value"));
  EXPECT_THAT(refusal("{}", {"=3"}), HasSubstr("has no value"));
  EXPECT_THAT(refusal("{}", {"cellar..wine=a"}), HasSubstr("has an empty key"));
  EXPECT_THAT(refusal(R"({"ovens": 2})", {"ovens.big=1"}),
              HasSubstr("ovens is 2 and holds no keys"));
  EXPECT_THAT(refusal(R"({"cooks": [{"name": "Ida"}]})", {"cooks[4000000000].age=20"}),
              HasSubstr("cooks is a list of 1"));
  EXPECT_THAT(refusal(R"({"cooks": [{"name": "Ida"}]})", {"cooks.first.age=20"}),
              HasSubstr("it has no element first"));
  EXPECT_THAT(refusal("{}", {"motto=\xff"}), HasSubstr("is not UTF-8"));
}

}  // namespace
}  // namespace strata::config

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "common/config/kitchen.h"

namespace strata::config {
namespace {

using nlohmann::json;
using testing::UnorderedElementsAre;

std::string resolved(Kitchen kitchen) {
  return resolved_json([&](Fields& f) { describe(f, kitchen); });
}

json schema() {
  Kitchen kitchen;
  return json::parse(schema_json("kitchen", [&](Fields& f) { describe(f, kitchen); }));
}

TEST(ResolvedCopy, ReadsBackAsTheSameValues) {
  Kitchen kitchen;
  kitchen.ovens = 7;
  kitchen.heat = 0.1;
  kitchen.salt = 0.25;
  kitchen.timer = 12.0;
  kitchen.recipes = "/abs/soups";
  kitchen.spoons = {{"top", 3}};
  kitchen.cellar_wine = "red";
  kitchen.cooks = {{"Ida", 30}, {"Bo", 41}};
  const std::string text = resolved(kitchen);
  const auto again = read_kitchen(text);
  ASSERT_TRUE(again) << again.error().line();
  EXPECT_EQ(resolved(*again), text);
  EXPECT_EQ(again->cooks[1].name, "Bo");
  EXPECT_EQ(again->salt, 0.25);
}

TEST(ResolvedCopy, LeavesOutNumbersThatWereLeftOut) {
  const json written = json::parse(resolved({}));
  EXPECT_FALSE(written.contains("salt"));
  EXPECT_EQ(written["timer"], "never");
}

TEST(ResolvedCopy, HoldsEveryKeyAndDefault) {
  const json written = json::parse(resolved({}));
  std::vector<std::string> keys;
  for (const auto& [key, value] : written.items()) keys.push_back(key);
  EXPECT_THAT(keys, UnorderedElementsAre("ovens", "heat", "timer", "open", "motto", "recipes",
                                         "fuel", "tools", "spoons", "weights", "cellar", "cooks"));
  EXPECT_EQ(written["cellar"]["shelves"], 4);
}

TEST(Schema, StatesTypesBoundsDefaultsAndHelp) {
  const json fields = schema()["properties"];
  EXPECT_EQ(
      fields["ovens"],
      json::parse(
          R"({"type": "integer", "default": 2, "description": "how many ovens", "minimum": 1, "maximum": 9})"));
  EXPECT_EQ(fields["heat"]["exclusiveMinimum"], 0.0);
  EXPECT_EQ(fields["heat"]["maximum"], 1.0);
  EXPECT_EQ(fields["fuel"]["enum"], json::parse(R"(["gas", "wood", "induction"])"));
  EXPECT_EQ(fields["spoons"]["additionalProperties"]["type"], "integer");
  EXPECT_FALSE(fields["ovens"].contains("exclusiveMinimum"));
  EXPECT_EQ(
      fields["salt"],
      json::parse(
          R"({"type": "number", "description": "spoons of it", "exclusiveMinimum": 0.0, "maximum": 1.0})"));
  EXPECT_EQ(fields["timer"]["oneOf"],
            json::parse(R"([{"type": "number", "minimum": 0.0}, {"const": "never"}])"));
}

TEST(Schema, RefusesUnknownKeysAndNamesRequiredOnesAtEachLevel) {
  const json written = schema();
  EXPECT_EQ(written["additionalProperties"], false);
  EXPECT_EQ(written["properties"]["cellar"]["additionalProperties"], false);
  EXPECT_EQ(written["properties"]["cellar"]["required"], json::parse(R"(["wine"])"));
  EXPECT_EQ(written["properties"]["cooks"]["items"]["required"], json::parse(R"(["name"])"));
  EXPECT_TRUE(written["properties"].contains("$schema"));
  EXPECT_EQ(written["properties"]["version"]["const"], 1);
}

TEST(Nearest, FindsSwappedMissingAndWrongLetters) {
  const std::vector<std::string> names{"rank", "alpha", "learning_rate"};
  EXPECT_EQ(nearest("rnak", names), "rank");
  EXPECT_EQ(nearest("alpa", names), "alpha");
  EXPECT_EQ(nearest("lerning_rat", names), "learning_rate");
}

TEST(Nearest, IsSilentWhenNothingIsNear) {
  const std::vector<std::string> names{"rank", "alpha"};
  EXPECT_EQ(nearest("temperature", names), std::nullopt);
  EXPECT_EQ(nearest("rank", std::vector<std::string>{}), std::nullopt);
}

}  // namespace
}  // namespace strata::config

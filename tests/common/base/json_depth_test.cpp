#include "base/json_depth.h"

#include <gtest/gtest.h>

#include <string>

namespace strata {
namespace {

TEST(JsonDepth, CountsOpenBracketsOutsideStrings) {
  EXPECT_EQ(json_depth(""), 0U);
  EXPECT_EQ(json_depth("7"), 0U);
  EXPECT_EQ(json_depth("{}"), 1U);
  EXPECT_EQ(json_depth(R"({"a": [1, {"b": []}], "c": [[2]]})"), 4U);
  EXPECT_EQ(json_depth(R"({"[[[": "]\"[[[\\", "b": []})"), 2U);
}

TEST(JsonDepth, AnyTextHasADepth) {
  EXPECT_EQ(json_depth(std::string(1000, '[')), 1000U);
  EXPECT_EQ(json_depth("]]]}[["), 2U);
  EXPECT_EQ(json_depth("[\"never closed [["), 1U);
  EXPECT_EQ(json_depth("[\"\\"), 1U);
}

}  // namespace
}  // namespace strata

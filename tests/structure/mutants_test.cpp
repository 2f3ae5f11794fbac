// The bugs on purpose stay bugs: each place that one changes is there, once.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "support/process.h"
#include "support/source_tree.h"

namespace strata {
namespace {

TEST(Mutants, EachFindsItsPlaceOnce) {
  const auto root = support::source_root();
  auto mutants = nlohmann::json::array();
  for (const std::string file : {"simulation", "privacy", "heads"}) {
    for (auto& mutant :
         nlohmann::json::parse(support::read_file(root / "tests/mutants" / (file + ".json"))))
      mutants.push_back(mutant);
  }
  EXPECT_GE(mutants.size(), 50u);
  std::set<std::string> names;
  for (const auto& mutant : mutants) {
    const std::string name = mutant.at("name");
    EXPECT_TRUE(names.insert(name).second) << name << " is there twice";
    EXPECT_FALSE(mutant.at("edits").empty()) << name;
    for (const auto& edit : mutant.at("edits")) {
      const std::string text = support::read_file(root / edit.at(0).get<std::string>());
      const std::string old = edit.at(1);
      const auto first = text.find(old);
      ASSERT_NE(first, std::string::npos)
          << name << ": " << edit.at(0) << " does not hold: " << old;
      EXPECT_EQ(text.find(old, first + 1), std::string::npos) << name << ": " << old;
      EXPECT_NE(old, edit.at(2).get<std::string>()) << name;
    }
  }
}

}  // namespace
}  // namespace strata

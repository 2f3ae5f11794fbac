// Every file of the corpus is answered exactly as `expected.json` beside it says: "" for what is
// taken, the line for what is refused. STRATA_UPDATE_EXPECTED=1 writes down what is answered now,
// to be read before it is committed.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "hostile/targets.h"
#include "support/process.h"

namespace strata::hostile {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::vector<Target> all_targets() {
  std::vector<Target> out(targets().begin(), targets().end());
  out.push_back(job_target());
  return out;
}

class Corpus : public testing::TestWithParam<Target> {};

TEST_P(Corpus, IsAnsweredExactly) {
  const Target& target = GetParam();
  const fs::path folder = fs::path(STRATA_SOURCE_DIR) / "tests/hostile/corpus" / target.name;
  std::map<std::string, std::string> answers;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().filename() == "expected.json") continue;
    const std::string bytes = support::read_file(entry.path());
    const auto began = std::chrono::steady_clock::now();
    answers[entry.path().filename()] = target.feed(bytes_of(bytes));
    EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(5)) << entry.path();
  }
  if (std::getenv("STRATA_UPDATE_EXPECTED") != nullptr) {
    support::write_file(folder / "expected.json", json(answers).dump(1) + "\n");
    return;
  }
  const auto expected = json::parse(support::read_file(folder / "expected.json"))
                            .get<std::map<std::string, std::string>>();
  for (const auto& [name, line] : expected) {
    ASSERT_TRUE(answers.contains(name)) << name << " is not in the corpus";
    EXPECT_EQ(answers.at(name), line) << name;
  }
  for (const auto& [name, line] : answers) EXPECT_TRUE(expected.contains(name)) << name;
}

// One line, in characters that do no harm to a terminal, of bearable length.
TEST_P(Corpus, AnswersAreForPeople) {
  const Target& target = GetParam();
  const fs::path folder = fs::path(STRATA_SOURCE_DIR) / "tests/hostile/corpus" / target.name;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().filename() == "expected.json") continue;
    const std::string bytes = support::read_file(entry.path());
    const std::string line = target.feed(bytes_of(bytes));
    EXPECT_LE(line.size(), 600u) << entry.path();
    for (const char c : line) EXPECT_TRUE(c >= ' ' && c != 0x7f) << entry.path() << ": " << line;
  }
}

INSTANTIATE_TEST_SUITE_P(Hostile, Corpus, testing::ValuesIn(all_targets()),
                         [](const auto& target) { return std::string(target.param.name); });

}  // namespace
}  // namespace strata::hostile

// Files stay short, state stays visible, folders say what they are.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <regex>
#include <set>

#include "support/source_tree.h"

namespace strata {
namespace {

using support::TextFile;
using Problems = std::vector<std::string>;

constexpr std::array<std::string_view, 5> kSources{"common", "privacy", "client", "coordinator",
                                                   "cli"};
constexpr std::array<std::string_view, 1> kTests{"tests"};
constexpr std::array<std::string_view, 1> kBench{"bench"};
constexpr std::array<std::string_view, 2> kCpp{".h", ".cpp"};
constexpr std::array<std::string_view, 3> kCode{".h", ".cpp", ".py"};

constexpr std::size_t kSourceLines = 600;
constexpr std::size_t kTestLines = 800;
constexpr std::size_t kMedianLines = 150;
constexpr std::size_t kNinthTenthLines = 400;

// Variables of namespace scope or static duration that may change, each with its reason.
const std::map<std::string, std::string>& allowed_globals() {
  static const std::map<std::string, std::string> kNames{
      {"g_signals", "a signal handler has nothing else to write to (cli/program.cpp)"},
  };
  return kNames;
}

Problems too_long(const std::vector<TextFile>& files, std::size_t most) {
  Problems out;
  for (const auto& file : files) {
    const std::size_t lines = support::lines_of(file.text).size();
    if (lines > most) out.push_back(file.path + " has " + std::to_string(lines) + " lines");
  }
  return out;
}

// Leads, not a parser: `thread_local` anywhere, `static` or `extern` variables without const, and
// what stands at the first column like a declaration of a variable. clang-format puts the contents
// of namespaces, and nothing else that ends in a semicolon, there.
Problems mutable_globals(const TextFile& file) {
  static const std::regex kIsStatic(
      R"(^\s*(static|extern|inline)\s+(?!.*\bconst(expr|init|eval)?\b)[^()]*[\w>\]&*]\s+\**\w+\s*(=|\{|;|\[).*$)");
  static const std::regex kAtScope(
      R"(^(?!using|__extension__ using|typedef|namespace|class|struct|enum|union|template|return|friend|else|case|public|private|protected|\}|#)(?!.*\bconst(expr|init|eval)?\b)[A-Za-z_][\w:<>,*& ]*[\w>*&]\s+\**\w+(\[\w*\])?(\s*=[^=].*|\{.*\})?;\s*$)");
  static const std::regex kPointerToConst(
      R"(^(static |extern |inline )?const [\w:<>]+\s*\*\s*\w+\s*(=|\{|;))");
  Problems out;
  std::size_t number = 0;
  for (const auto& line : support::lines_of(support::bare_code(file.text, false))) {
    ++number;
    const bool inner = line.empty() || line.front() == ' ';
    if (inner && line.find("static") == std::string::npos &&
        line.find("thread_local") == std::string::npos)
      continue;
    const bool found = line.find("thread_local") != std::string::npos ||
                       std::regex_search(line, kIsStatic) || std::regex_search(line, kAtScope) ||
                       std::regex_search(line, kPointerToConst);
    const auto allowed = [&](const auto& entry) {
      return std::regex_search(line, std::regex("\\b" + entry.first + "\\b"));
    };
    if (found && std::none_of(allowed_globals().begin(), allowed_globals().end(), allowed))
      out.push_back(file.path + ":" + std::to_string(number) + ": " + line);
  }
  return out;
}

TEST(Budgets, SourcesAndTestsStayShort) {
  const auto root = support::source_root();
  const auto sources = support::read_tree(root, kSources, kCode);
  EXPECT_GT(sources.size(), 100u);
  EXPECT_TRUE(too_long(sources, kSourceLines).empty())
      << "longest allowed: " << kSourceLines << support::listed(too_long(sources, kSourceLines));
  for (const auto& folders : {kTests, kBench}) {
    const auto files = support::read_tree(root, folders, kCode);
    EXPECT_TRUE(too_long(files, kTestLines).empty())
        << "longest allowed: " << kTestLines << support::listed(too_long(files, kTestLines));
  }
}

TEST(Budgets, MostSourcesAreMuchShorter) {
  std::vector<std::size_t> lengths;
  for (const auto& file : support::read_tree(support::source_root(), kSources, kCpp))
    lengths.push_back(support::lines_of(file.text).size());
  std::sort(lengths.begin(), lengths.end());
  EXPECT_LE(lengths[lengths.size() / 2], kMedianLines);
  EXPECT_LE(lengths[lengths.size() * 9 / 10], kNinthTenthLines);
}

TEST(HiddenState, ThereIsNone) {
  Problems problems;
  for (const auto& file : support::read_tree(support::source_root(), kSources, kCpp)) {
    for (auto& problem : mutable_globals(file)) problems.push_back(std::move(problem));
  }
  EXPECT_TRUE(problems.empty())
      << "hand over what a function needs, or give the reason in allowed_globals():"
      << support::listed(problems);
}

TEST(Readmes, EveryFolderWithSourcesHasOne) {
  const auto root = support::source_root();
  std::set<std::string> folders{"configs", "configs/quickstart", "docs"};
  const auto add = [&](const std::vector<TextFile>& files) {
    for (const auto& file : files)
      folders.insert(std::filesystem::path(file.path).parent_path().generic_string());
  };
  add(support::read_tree(root, kSources, kCpp));
  for (const auto& entry : std::filesystem::directory_iterator(root / "bench"))
    if (entry.is_directory()) folders.insert("bench");
  // A test folder that mirrors a source folder needs no words of its own: tests/README.md has them.
  folders.insert("tests");
  for (const auto& entry : std::filesystem::directory_iterator(root / "tests")) {
    const std::string name = entry.path().filename().string();
    if (entry.is_directory() && !name.starts_with("_") &&
        !std::filesystem::is_directory(root / name))
      folders.insert("tests/" + name);
  }
  EXPECT_GT(folders.size(), 20u);
  for (const auto& folder : folders) {
    const auto readme = root / folder / "README.md";
    if (!std::filesystem::is_regular_file(readme)) {
      ADD_FAILURE() << folder << " has no README.md";
      continue;
    }
    EXPECT_GT(std::filesystem::file_size(readme), 80u) << folder << "/README.md says nothing";
  }
}

TEST(BudgetsPlanted, LongFilesAndMutableGlobalsAreSeen) {
  EXPECT_EQ(too_long({{"a.cpp", std::string(601, '\n')}, {"b.cpp", "\n"}}, 600).size(), 1u);
  const auto count = [](std::string text) {
    return mutable_globals({"a.cpp", std::move(text)}).size();
  };
  for (const char* bad :
       {"static int g_count = 0;", "  static std::map<int, int> cache;", "thread_local int depth;",
        "std::string g_name;", "int counter = 3;", "std::atomic<int> flag{0};", "extern bool on;",
        "inline std::vector<int> list{1, 2};", "const char* g_text = \"x\";", "int table[4];"}) {
    EXPECT_EQ(count(bad), 1u) << bad;
  }
  for (const char* good :
       {"static const std::vector<int> kAll{1};", "constexpr int kOne = 1;", "using A = int;",
        "inline constexpr std::array kNames{1, 2};", "static int twice(int x);", "class Model;",
        "  int member_ = 0;", "// int counter = 3;", "double constant(double, double);",
        "static_assert(sizeof(int) == 4);", "std::atomic<int> g_signals{0};",
        "}  // namespace a"}) {
    EXPECT_EQ(count(good), 0u) << good;
  }
}

}  // namespace
}  // namespace strata

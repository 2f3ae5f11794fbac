// Names in documents name something: the path of one record in the README, links, and every
// `path/like/this`. Prose maps go stale unless somebody checks them.
#include <gtest/gtest.h>

#include <array>
#include <regex>
#include <set>

#include "support/markdown.h"
#include "support/process.h"
#include "support/source_tree.h"

namespace strata {
namespace {

namespace fs = std::filesystem;
using support::Markdown;
using Problems = std::vector<std::string>;

bool matches_glob(const std::string& pattern, const std::string& name) {
  std::string expression;
  for (const char c : pattern) {
    if (c == '*')
      expression += ".*";
    else
      expression += std::string(".+()[]{}^$|\\?").find(c) == std::string::npos
                        ? std::string(1, c)
                        : std::string("\\") + c;
  }
  return std::regex_match(name, std::regex(expression));
}

// Whether `path` is there below `base`: as it is, with an extension, or for a pattern with * or
// <name> at least one match in its folder.
bool is_there(const fs::path& base, std::string path) {
  while (path.ends_with('/')) path.pop_back();
  path = std::regex_replace(path, std::regex("<[a-z_]+>"), "*");
  if (fs::exists(base / path)) return true;
  const fs::path folder = (base / path).parent_path();
  if (!fs::is_directory(folder)) return false;
  const std::string last = fs::path(path).filename().string();
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (matches_glob(last, name) || (entry.is_regular_file() && entry.path().stem() == last))
      return true;
  }
  return false;
}

// What is made by running something, or stands for a name of the reader's own (RUN/adapter).
bool is_elsewhere(const std::string& path) {
  return std::regex_search(path, std::regex("(^|/)[A-Z][A-Z_]+(/|$)")) ||
         std::regex_search(path, std::regex("^(build/|runs/|/|~|\\.\\./)"));
}

bool looks_like_a_path(const std::string& span) {
  return std::regex_match(
             span, std::regex(R"([A-Za-z0-9_.][A-Za-z0-9_.*<>-]*(/[A-Za-z0-9_.*<>-]+)*/?)")) &&
         span.find('/') != std::string::npos;
}

// A file's name alone: it lies somewhere in the tree.
bool is_a_file_name(const std::string& span) {
  return std::regex_match(span, std::regex(R"([a-z0-9_]+\.(h|cpp|py))"));
}

const std::set<std::string>& file_names() {
  static const std::set<std::string> kAll = [] {
    constexpr std::array<std::string_view, 7> kFolders{"common", "privacy", "client", "coordinator",
                                                       "cli",    "tests",   "bench"};
    constexpr std::array<std::string_view, 3> kCode{".h", ".cpp", ".py"};
    std::set<std::string> out;
    for (const auto& file : support::read_tree(support::source_root(), kFolders, kCode))
      out.insert(fs::path(file.path).filename().string());
    return out;
  }();
  return kAll;
}

Problems dead_names(const fs::path& root, const std::string& document, const std::string& text) {
  Problems out;
  const Markdown markdown(text);
  const fs::path folder = root / fs::path(document).parent_path();
  for (const auto& span : markdown.code_spans()) {
    if (is_a_file_name(span) && !file_names().contains(span))
      out.push_back(document + ": `" + span + "`");
    if (!looks_like_a_path(span) || is_elsewhere(span)) continue;
    // From the root, as an include says it, or from where the document lies.
    if (!is_there(root, span) && !is_there(root / "common", span) && !is_there(folder, span))
      out.push_back(document + ": `" + span + "`");
  }
  for (const auto& link : markdown.links()) {
    if (std::regex_search(link, std::regex("^([a-z]+:|#)"))) continue;
    if (!fs::exists(folder / link.substr(0, link.find('#'))))
      out.push_back(document + ": link to " + link);
  }
  return out;
}

std::vector<support::TextFile> documents() {
  constexpr std::array<std::string_view, 9> kFolders{
      "common", "privacy", "client", "coordinator", "cli", "tests", "configs", "bench", "docs"};
  constexpr std::array<std::string_view, 1> kMarkdown{".md"};
  const fs::path root = support::source_root();
  auto out = support::read_tree(root, kFolders, kMarkdown);
  for (const auto& entry : fs::directory_iterator(root)) {
    if (entry.path().extension() == ".md")
      out.push_back({entry.path().filename().string(), support::read_file(entry.path())});
  }
  return out;
}

TEST(Map, EveryPathAndLinkInDocumentsExists) {
  Problems problems;
  std::size_t read = 0;
  for (const auto& document : documents()) {
    ++read;
    for (auto& problem : dead_names(support::source_root(), document.path, document.text))
      problems.push_back(std::move(problem));
  }
  EXPECT_GT(read, 25u);
  EXPECT_TRUE(problems.empty()) << support::listed(problems);
}

TEST(Map, ThePathOfOneRecordCanBeWalked) {
  const fs::path root = support::source_root();
  const std::string readme = support::read_file(root / "README.md");
  const auto begin = readme.find("The path of one record:");
  ASSERT_NE(begin, std::string::npos);
  const Markdown path(readme.substr(begin, readme.find("\n\n", begin) - begin));
  std::size_t places = 0;
  for (const auto& span : path.code_spans()) {
    if (!looks_like_a_path(span)) continue;
    EXPECT_TRUE(is_there(root, span)) << span;
    ++places;
  }
  EXPECT_GE(places, 12u);
  EXPECT_GE(path.links().size(), 3u) << "the files to read first";
}

// CMakeLists.txt and the layout name this test: a folder without a mirror here is not tested.
TEST(Map, TestFoldersMirrorSourceFolders) {
  const fs::path root = support::source_root();
  for (const char* side : {"common", "privacy", "client", "coordinator"}) {
    for (const auto& entry : fs::recursive_directory_iterator(root / "tests" / side)) {
      if (!entry.is_directory()) continue;
      const fs::path folder = fs::relative(entry.path(), root / "tests");
      EXPECT_TRUE(fs::is_directory(root / folder)) << "tests/" << folder.string();
    }
  }
}

TEST(MapPlanted, DeadNamesAreSeen) {
  const fs::path root = support::source_root();
  const auto count = [&](const std::string& text) {
    return dead_names(root, "docs/page.md", text).size();
  };
  for (const char* bad :
       {"`common/text/nothing`", "`client/optimizer/adamw.h`", "`docs/none.md`", "[x](nowhere.md)",
        "`no_such_file.h`", "[x](../README.txt)", "`tests/golden/*.rs`"}) {
    EXPECT_EQ(count(bad), 1u) << bad;
  }
  for (const char* good :
       {"`common/text/tokenizer`", "`text/tokenizer.h`", "`tokenizer.h`", "`client/optimizer/`",
        "`RUN/adapter`", "`tests/golden/*.py`", "[x](../README.md)", "[x](https://example.org/a)",
        "`a / b`", "```\ncommon/none\n```", "`common/adapter/methods/<name>.cpp`", "`runs/x/y`",
        "[x](#part)"}) {
    EXPECT_EQ(count(good), 0u) << good;
  }
}

}  // namespace
}  // namespace strata

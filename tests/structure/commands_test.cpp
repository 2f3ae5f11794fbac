// Command lines in documents use commands and flags that exist, and docs/manual/commands.md has all
// of them.
#include <gtest/gtest.h>

#include <array>
#include <regex>
#include <set>
#include <sstream>

#include "cli/verb.h"
#include "support/markdown.h"
#include "support/process.h"
#include "support/source_tree.h"

namespace strata {
namespace {

using Problems = std::vector<std::string>;
using Flags = std::map<std::string, std::set<std::string>>;  // by command: --long and -s

std::set<std::string> flags_in(const std::string& text) {
  std::set<std::string> out;
  const std::regex flag(R"((^|[\s`\[(,/])(--[a-z][a-z-]*|-[a-zA-Z])(?![\w-]))");
  for (std::sregex_iterator match(text.begin(), text.end(), flag), end; match != end; ++match)
    out.insert((*match)[2].str());
  return out;
}

// What --help says, but not its example.
Flags flags_of_commands() {
  Flags out;
  for (const auto& verb : cli::all_verbs()) {
    std::vector<std::string> words{STRATA_BINARY};
    std::istringstream name{std::string(verb.name)};
    for (std::string word; name >> word;) words.push_back(word);
    words.emplace_back("--help");
    const auto help = support::run_program(words);
    EXPECT_EQ(help.status, 0) << verb.name;
    std::set<std::string>& flags = out[std::string(verb.name)];
    for (const auto& line : support::lines_of(help.out.substr(0, help.out.find("\nExample:")))) {
      if (line.starts_with("  -")) flags.merge(flags_in(" " + line.substr(0, 30)));
    }
  }
  return out;
}

// Lines of shell code, continued ones joined: fenced as sh, or indented by four.
std::vector<std::string> shell_lines(const std::string& document) {
  std::string code;
  const support::Markdown markdown(document);
  for (const auto& fence : markdown.fences()) {
    if (fence.language == "sh") code += fence.text;
  }
  for (const auto& line : support::lines_of(document)) {
    if (line.starts_with("    ")) code += line + "\n";
  }
  code = std::regex_replace(code, std::regex(R"(\\\n\s*)"), " ");
  return support::lines_of(code);
}

// Every call of the program in a line of shell: its command, and the flags it is given.
Problems bad_calls(const std::string& line, const Flags& known) {
  Problems out;
  const std::regex call(
      R"((^|[\s|(])(build/release/)?strata ([a-z]+)( [a-z]+)?( [a-z]+(?=\s|$))?([^|;&#>]*))");
  for (std::sregex_iterator match(line.begin(), line.end(), call), end; match != end; ++match) {
    const std::string one = (*match)[3].str();
    const std::string two = one + (*match)[4].str();
    const std::string three = two + (*match)[5].str();
    const auto command = known.contains(three) ? known.find(three)
                         : known.contains(two) ? known.find(two)
                                               : known.find(one);
    if (command == known.end()) {
      out.push_back("no command `strata " + one + "`: " + line);
      continue;
    }
    // Words in quotes are the reader's own.
    const std::string rest =
        std::regex_replace((*match)[6].str(), std::regex(R"("[^"]*"|'[^']*')"), "\"\"");
    for (const auto& flag : flags_in(rest)) {
      if (!command->second.contains(flag))
        out.push_back("`strata " + command->first + "` has no " + flag + ": " + line);
    }
  }
  return out;
}

TEST(Commands, InDocumentsExistWithTheirFlags) {
  constexpr std::array<std::string_view, 3> kFolders{"docs", "bench", "configs"};
  constexpr std::array<std::string_view, 1> kMarkdown{".md"};
  auto documents = support::read_tree(support::source_root(), kFolders, kMarkdown);
  documents.push_back({"README.md", support::read_file(support::source_root() / "README.md")});
  const Flags known = flags_of_commands();
  std::size_t calls = 0;
  for (const auto& document : documents) {
    for (const auto& line : shell_lines(document.text)) {
      calls += line.find("strata ") != std::string::npos ? 1 : 0;
      for (const auto& problem : bad_calls(line, known))
        ADD_FAILURE() << document.path << ": " << problem;
    }
  }
  EXPECT_GT(calls, 15u);
}

TEST(Commands, AllFlagsAreInTheManual) {
  const support::Markdown manual(
      support::read_file(support::source_root() / "docs/manual/commands.md"));
  const auto common = flags_in(manual.section("All commands").text);
  for (const auto& [command, flags] : flags_of_commands()) {
    const auto own = flags_in(manual.section("strata " + command).text);
    for (const auto& flag : flags)
      EXPECT_TRUE(own.contains(flag) || common.contains(flag))
          << "docs/manual/commands.md does not explain " << flag << " of strata " << command;
    for (const auto& flag : own)
      EXPECT_TRUE(flags.contains(flag) || flag == "--help")
          << "docs/manual/commands.md gives strata " << command << " the flag " << flag;
  }
}

TEST(CommandsPlanted, WrongCallsAreSeen) {
  const Flags known{{"run", {"--set", "-o"}}, {"data preview", {"--data"}}};
  EXPECT_EQ(bad_calls("strata run job.json -o x --set a=1", known).size(), 0u);
  EXPECT_EQ(bad_calls("build/release/strata data preview --data f | head -3", known).size(), 0u);
  EXPECT_EQ(bad_calls("strata run job.json --sett a=1 -x", known).size(), 2u);
  EXPECT_EQ(bad_calls("strata data review --data f", known).size(), 1u);
  EXPECT_EQ(bad_calls("echo x | strata walk", known).size(), 1u);
}

}  // namespace
}  // namespace strata

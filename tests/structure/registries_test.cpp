// Every member of a registry is named where users look for it: lists kept twice drift apart.
#include <gtest/gtest.h>

#include <array>

#include "adapter/adapter.h"
#include "cli/verb.h"
#include "client/optimizer/optimizer.h"
#include "client/schedule/schedule.h"
#include "coordinator/aggregator/aggregator.h"
#include "model/family.h"
#include "privacy/accountant/accountant.h"
#include "support/process.h"
#include "support/source_tree.h"
#include "text/chat_template.h"
#include "text/record_reader.h"

namespace strata {
namespace {

std::string page(const std::string& path) {
  return support::read_file(support::source_root() / path);
}

bool names(const std::string& text, std::string_view member) {
  return text.find("`" + std::string(member) + "`") != std::string::npos;
}

void expect_named(const std::string& path, std::string_view member) {
  EXPECT_TRUE(names(page(path), member)) << path << " does not name `" << member << "`";
}

void expect_method_page(std::string_view method) {
  const std::string path = "docs/methods/" + std::string(method) + ".md";
  ASSERT_TRUE(std::filesystem::exists(support::source_root() / path)) << path;
  const std::string text = page(path);
  EXPECT_TRUE(text.starts_with("# " + std::string(method) + ":")) << path << " has another title";
  for (const char* part : {"## Arguments", "## Equation", "## Exact export", "## Example"})
    EXPECT_NE(text.find(part), std::string::npos) << path << " lacks " << part;
  expect_named("docs/manual/adapters.md", method);
  EXPECT_NE(page("docs/README.md").find("methods/" + std::string(method) + ".md"),
            std::string::npos)
      << "docs/README.md has no link to " << path;
}

TEST(Registries, AdapterMethodsHaveTheirPages) {
  EXPECT_GE(adapter::methods().size(), 3u);
  for (const auto& method : adapter::methods()) expect_method_page(method.name);
  expect_method_page("full");
}

TEST(Registries, AggregatorsHaveTheirPages) {
  EXPECT_GE(coordinator::aggregators().size(), 3u);
  for (const auto& entry : coordinator::aggregators()) expect_method_page(entry.name);
}

TEST(Registries, OptimizersAndSchedulesAreInTheManual) {
  for (const auto& entry : client::optimizers()) expect_named("docs/manual/job.md", entry.name);
  for (const auto& entry : client::schedules()) expect_named("docs/manual/job.md", entry.name);
}

TEST(Registries, AccountantsAreInTheManual) {
  EXPECT_GE(privacy::accountants().size(), 2u);
  for (const auto& entry : privacy::accountants())
    expect_named("docs/manual/commands.md", entry.name);
}

TEST(Registries, ModelFamiliesAreInTheManualAndTheReadme) {
  EXPECT_GE(model::families().size(), 5u);
  for (const auto& family : model::families()) {
    expect_named("docs/manual/models.md", family.model_type);
    expect_named("README.md", family.model_type);
  }
}

TEST(Registries, CommandsAreInTheManualAndTheReadme) {
  const std::string manual = page("docs/manual/commands.md");
  const std::string readme = page("README.md");
  const auto begin = readme.find("| commands |");
  ASSERT_NE(begin, std::string::npos);
  const std::string row = " " + readme.substr(begin, readme.find('\n', begin) - begin);
  for (const auto& verb : cli::all_verbs()) {
    const std::string name(verb.name);
    EXPECT_NE(manual.find("\n## strata " + name + "\n"), std::string::npos)
        << "docs/manual/commands.md has no section for " << name;
    const std::string word = name.substr(0, name.find(' '));
    EXPECT_TRUE(row.find(" " + word + " ") != std::string::npos ||
                row.find("`" + word + " ") != std::string::npos ||
                row.find(" " + word + "`") != std::string::npos)
        << "README.md's row of commands lacks " << word;
  }
}

TEST(Registries, ChatTemplatesAndRecordFieldsAreInTheManual) {
  std::string list = text::template_names() + ", ";
  for (std::size_t at = 0, end; (end = list.find(", ", at)) != std::string::npos; at = end + 2)
    expect_named("docs/manual/data.md", list.substr(at, end - at));
  for (const auto& name : text::field_names()) expect_named("docs/manual/data.md", name);
}

TEST(RegistriesPlanted, OnlyAWholeMarkedNameCounts) {
  EXPECT_TRUE(names("methods: `lora`, `ffa`", "lora"));
  EXPECT_FALSE(names("methods: `lora`, `ffa`", "rslora"));
  EXPECT_FALSE(names("lora without marks", "lora"));
}

}  // namespace
}  // namespace strata

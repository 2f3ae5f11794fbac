// docs/manual/job.md says of every key what the schema says: its rule, its default, its meaning.
// The expected table is part of a failure's message, ready to be pasted.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "cli/job.h"
#include "support/markdown.h"
#include "support/process.h"
#include "support/source_tree.h"

namespace strata {
namespace {

using json = nlohmann::ordered_json;

std::string number(const json& value) {
  const double number = value.get<double>();
  if (number == std::floor(number) && std::fabs(number) < 1e7) return fmt::format("{:.0f}", number);
  return fmt::format("{:g}", number);
}

std::string bounds(const json& entry) {
  const auto has = [&](const char* key) { return entry.contains(key); };
  if (has("minimum") && has("maximum"))
    return " from " + number(entry["minimum"]) + " to " + number(entry["maximum"]);
  std::vector<std::string> parts;
  if (has("minimum")) parts.push_back("at least " + number(entry["minimum"]));
  if (has("exclusiveMinimum")) parts.push_back("above " + number(entry["exclusiveMinimum"]));
  if (has("exclusiveMaximum")) parts.push_back("below " + number(entry["exclusiveMaximum"]));
  if (has("maximum")) parts.push_back("at most " + number(entry["maximum"]));
  std::string out;
  for (const auto& part : parts) out += (out.empty() ? " " : ", ") + part;
  return out;
}

// What a value must be, in words.
std::string rule(const json& entry) {
  if (entry.contains("oneOf"))
    return rule(entry["oneOf"][0]) + ", or `" + entry["oneOf"][1]["const"].dump() + "`";
  if (entry.contains("const")) return "`" + entry["const"].dump() + "`";
  if (entry.contains("enum")) {
    std::string out;
    for (const auto& name : entry["enum"])
      out += (out.empty() ? "" : ", ") + ("`" + name.get<std::string>() + "`");
    return out;
  }
  const json type = entry.value("type", json());
  if (type.is_array()) return "text or list of texts";
  if (type == "integer") return "whole number" + bounds(entry);
  if (type == "number") return "number" + bounds(entry);
  if (type == "boolean") return "true or false";
  if (entry.value("additionalProperties", json()).is_object())
    return "object: pattern to " + rule(entry["additionalProperties"]);
  return type == "object" ? "object" : "text";
}

std::string row(const std::string& key, const json& entry, bool required) {
  std::string value = "-";
  if (required) {
    value = "required";
  } else if (entry.contains("default")) {
    value = entry["default"] == "" ? "empty" : "`" + entry["default"].dump() + "`";
  } else if (entry.value("type", json()) == "object") {
    value = "empty";
  }
  // The two keys that any job file may have have no description in the schema.
  const std::string help = key == "$schema"   ? "for editors; not read"
                           : key == "version" ? "of the job format"
                                              : entry.value("description", std::string());
  return "| `" + key + "` | " + rule(entry) + " | " + value + " | " + help + " |\n";
}

// The rows of an object's keys. An object in it is spelled out as outer.inner, unless `alike` has a
// section of that name, whose keys it then shares.
std::string rows(const json& object, const json& alike, const std::string& prefix = "") {
  std::set<std::string> required;
  for (const auto& key : object.value("required", json::array())) required.insert(key);
  std::string out;
  for (const auto& [key, entry] : object["properties"].items()) {
    const bool is_object = entry.value("type", json()) == "object" && entry.contains("properties");
    if (is_object && !alike.contains(key))
      out += rows(entry, alike, prefix + key + ".");
    else
      out += row(prefix + key, entry, required.contains(key));
  }
  return out;
}

// Title of a section of the page -> the rows its table must have.
std::vector<std::pair<std::string, std::string>> expected_tables(const json& schema) {
  std::vector<std::pair<std::string, std::string>> out;
  std::string top;
  for (const auto& [key, entry] : schema["properties"].items()) {
    if (entry.value("type", json()) == "object")
      out.emplace_back(key, rows(entry, json::object()));
    else if (entry.value("type", json()) == "array")
      out.emplace_back(key, rows(entry["items"], schema["properties"]));
    else
      top += row(key, entry, false);
  }
  out.emplace_back("The file", top);
  return out;
}

json job_schema() { return json::parse(cli::job_schema()); }

TEST(JobManual, SaysOfEveryKeyWhatTheSchemaSays) {
  const support::Markdown page(support::read_file(support::source_root() / "docs/manual/job.md"));
  const auto tables = expected_tables(job_schema());
  EXPECT_GE(tables.size(), 9u);
  for (const auto& [title, rows] : tables) {
    EXPECT_NE(page.section(title).text.find(rows), std::string::npos)
        << "the section \"" << title << "\" of docs/manual/job.md must have the rows\n"
        << rows;
  }
}

TEST(JobManual, HasNoKeyThatTheSchemaLacks) {
  const support::Markdown page(support::read_file(support::source_root() / "docs/manual/job.md"));
  for (const auto& [title, rows] : expected_tables(job_schema())) {
    for (const auto& cells : support::table_rows(page.section(title).text))
      EXPECT_NE(rows.find("| " + cells.front() + " |"), std::string::npos)
          << title << ": " << cells.front();
  }
}

TEST(JobManual, AClientsAdapterHasTheKeysOfTheJobsButInit) {
  const json schema = job_schema();
  json own = schema["properties"]["clients"]["items"]["properties"]["adapter"]["properties"];
  json whole = schema["properties"]["adapter"]["properties"];
  EXPECT_TRUE(whole.contains("init"));
  whole.erase("init");
  EXPECT_EQ(own, whole);
}

TEST(JobManualPlanted, RulesAreWords) {
  EXPECT_EQ(rule(json::parse(R"({"type": "integer", "minimum": 1.0, "maximum": 65536.0})")),
            "whole number from 1 to 65536");
  EXPECT_EQ(rule(json::parse(R"({"type": "number", "exclusiveMinimum": 0.0, "maximum": 1e9})")),
            "number above 0, at most 1e+09");
  EXPECT_EQ(
      row("a", json::parse(R"({"type": "string", "default": "", "description": "d"})"), false),
      "| `a` | text | empty | d |\n");
}

}  // namespace
}  // namespace strata

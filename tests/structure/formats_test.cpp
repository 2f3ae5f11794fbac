// The pages of docs/formats and docs/manual/run_folder.md against a packet and a run folder made
// here: every byte, file, event and field is on its page, and the pages have no other.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>

#include "adapter/packet.h"
#include "support/golden.h"
#include "support/markdown.h"
#include "support/process.h"
#include "support/source_tree.h"

namespace strata {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using support::Markdown;

Markdown page(const std::string& path) {
  return Markdown(support::read_file(support::source_root() / path));
}

// A hex dump: two digits a byte, single spaces; two or more begin a comment.
std::vector<std::byte> bytes_of(const std::string& dump) {
  std::vector<std::byte> out;
  for (const auto& line : support::lines_of(dump)) {
    std::istringstream words(line.substr(0, line.find("  ")));
    for (std::string word; words >> word;)
      out.push_back(static_cast<std::byte>(std::stoul(word, nullptr, 16)));
  }
  return out;
}

adapter::Packet example_packet() {
  adapter::Stack stack{tensor::Matrix(2, 1), tensor::Matrix(1, 3)};
  stack.b(0, 0) = 1.0f;
  stack.b(1, 0) = 2.0f;
  stack.a(0, 0) = 0.5f;
  stack.a(0, 2) = -1.0f;
  adapter::Dense dense{tensor::Matrix(2, 1)};
  dense.values(0, 0) = 0.25f;
  dense.values(1, 0) = -0.25f;
  adapter::Packet out;
  out.tensors.emplace("w", adapter::PacketTensor{2, 3, stack});
  out.tensors.emplace("z", adapter::PacketTensor{2, 1, dense});
  return out;
}

TEST(PacketPage, ItsExampleIsWhatTheProgramWrites) {
  const auto packet = example_packet();
  const Markdown document = page("docs/formats/packet.md");
  const auto& fences = document.fences();
  ASSERT_EQ(fences.size(), 1u);
  EXPECT_EQ(bytes_of(fences.front().text), packet.bytes());
  const std::string text = document.section("Example").text;
  EXPECT_NE(text.find(std::to_string(packet.byte_count()) + " bytes"), std::string::npos);
  EXPECT_NE(text.find(hex(packet.hash())), std::string::npos) << hex(packet.hash());
  const std::string chain = hex(adapter::chain_hash(Sha256{}, 1, packet.hash()));
  EXPECT_NE(text.find(chain), std::string::npos) << chain;
}

std::string write_records(const fs::path& path, int records, int start) {
  std::string text;
  for (int i = 0; i < records; ++i) {
    json ids = json::array();
    for (int t = 0; t < 8; ++t) ids.push_back((start + 7 * i + 3 * t) % 67);
    text += json{{"input_ids", ids}}.dump() + "\n";
  }
  support::write_file(path, text);
  return path.filename().string();
}

// Two clients of unequal rank, two rounds, on the smallest golden model.
class RunPages : public ::testing::Test {
 protected:
  static fs::path run(const support::ScratchFolder& scratch, const std::string& method) {
    const json job{
        {"name", "pages"},
        {"model", {{"path", support::Golden("llama").folder().string()}}},
        {"clients",
         {{{"name", "a"},
           {"data", write_records(scratch.path() / "a.jsonl", 6, 1)},
           {"adapter", {{"rank", 2}}}},
          {{"name", "b"},
           {"data", write_records(scratch.path() / "b.jsonl", 5, 2)},
           {"adapter", {{"rank", 3}}}}}},
        {"privacy", {{"mode", "none"}}},
        {"training", {{"local_steps", 2}, {"batch_size", 2}}},
        {"aggregation", {{"rounds", 2}, {"method", method}, {"diagnostics", true}}},
        {"evaluation", {{"data", write_records(scratch.path() / "held.jsonl", 3, 3)}}},
        {"output", {{"merged_model", true}, {"checkpoint_every", method == "flora" ? 2 : 0}}}};
    support::write_file(scratch.path() / "job.json", job.dump());
    const auto finished =
        support::run_program({STRATA_BINARY, "run", (scratch.path() / "job.json").string(), "-o",
                              (scratch.path() / "run").string(), "--threads", "1", "--quiet"});
    EXPECT_EQ(finished.status, 0) << finished.err;
    return scratch.path() / "run";
  }

  static json read(const fs::path& path) { return json::parse(support::read_file(path)); }

  static std::set<std::string> keys(const json& object) {
    std::set<std::string> out;
    for (const auto& [key, value] : object.items()) out.insert(key);
    return out;
  }
};

// The fields of a section's tables; those that are only sometimes there say "only" in their
// meaning.
struct Fields {
  std::set<std::string> always;
  std::set<std::string> all;
};

Fields fields_of(const std::string& section) {
  Fields out;
  for (const auto& cells : support::table_rows(section)) {
    const std::string name = support::without_quotes(cells.front());
    out.all.insert(name);
    if (cells.back().find("only with") == std::string::npos) out.always.insert(name);
  }
  return out;
}

void expect_documented(const std::set<std::string>& found, const std::string& section,
                       const std::string& what) {
  const Fields fields = fields_of(section);
  EXPECT_FALSE(fields.all.empty()) << what;
  for (const auto& name : found)
    EXPECT_TRUE(fields.all.contains(name)) << what << " has the undocumented field " << name;
  for (const auto& name : fields.always)
    EXPECT_TRUE(found.contains(name)) << what << " lacks the documented field " << name;
}

TEST_F(RunPages, MetricsHaveTheEventsAndFieldsOfTheirPage) {
  const support::ScratchFolder scratch;
  const fs::path folder = run(scratch, "flora");
  const Markdown document = page("docs/formats/metrics.md");
  std::set<std::string> events;
  for (const auto& line : support::lines_of(support::read_file(folder / "metrics.jsonl"))) {
    const json event = json::parse(line);
    const std::string name = event.at("event");
    events.insert(name);
    std::set<std::string> found = keys(event);
    EXPECT_EQ(found.erase("ts"), 1u) << line;
    found.erase("event");
    expect_documented(found, document.section(name).text, name);
  }
  EXPECT_EQ(events,
            (std::set<std::string>{"run_started", "evaluation", "step", "client_round", "aggregate",
                                   "gradient", "tensor", "round", "run_finished"}));
}

// Every event a source names has a section, also those that this run did not have.
TEST_F(RunPages, EveryEventOfTheSourcesHasASection) {
  const Markdown metrics = page("docs/formats/metrics.md"), audit = page("docs/formats/audit.md");
  constexpr std::array<std::string_view, 3> kSides{"client", "coordinator", "cli"};
  constexpr std::array<std::string_view, 1> kCpp{".cpp"};
  std::size_t found = 0;
  for (const auto& file : support::read_tree(support::source_root(), kSides, kCpp)) {
    const std::string code = support::bare_code(file.text, true);
    const std::regex event(R"re(\.name = "([a-z_]+)",\s*\.fields)re");
    for (std::sregex_iterator match(code.begin(), code.end(), event), end; match != end; ++match) {
      if ((*match)[1] == "message") continue;  // for people only, before the file is there
      ++found;
      const std::string name = (*match)[1];
      const Markdown& document = name == "run_opened" || name == "run_stopped" ? audit : metrics;
      EXPECT_NO_THROW((void)document.section(name)) << file.path << " " << match->str();
    }
  }
  EXPECT_GE(found, 7u);
}

TEST_F(RunPages, JsonFilesHaveTheFieldsOfTheirPage) {
  const Markdown document = page("docs/formats/run_files.md");
  for (const char* method : {"flora", "zero_pad"}) {
    const support::ScratchFolder scratch;
    const fs::path folder = run(scratch, method);
    expect_documented(keys(read(folder / "manifest.json")), document.section("manifest.json").text,
                      "manifest.json");
    const json sidecar = read(folder / "rounds/0001/strata.json");
    expect_documented(keys(sidecar), document.section("strata.json").text, "strata.json");
    EXPECT_NE(document.section("strata.json").text.find(sidecar.at("stands_on").get<std::string>()),
              std::string::npos);
    const json data = read(folder / "data.json");
    std::set<std::string> fields = keys(data);
    fields.merge(keys(data.at("clients").at(0)));
    expect_documented(fields, document.section("data.json").text, "data.json");
  }
}

TEST_F(RunPages, TheFolderHasTheFilesOfItsPage) {
  const support::ScratchFolder scratch;
  const fs::path folder = run(scratch, "flora");
  std::set<std::string> documented;
  for (const auto& cells :
       support::table_rows(page("docs/manual/run_folder.md").section("Run folder").text))
    documented.insert(support::without_quotes(cells.front()));
  std::set<std::string> found;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    std::string path = "RUN/" + fs::relative(entry.path(), folder).generic_string();
    path = std::regex_replace(path, std::regex("rounds/[0-9]{4}"), "rounds/NNNN");
    found.insert(
        std::regex_replace(path, std::regex("checkpoints/[0-9]{6}"), "checkpoints/NNNNNN"));
  }
  for (const auto& path : found) EXPECT_TRUE(documented.contains(path)) << path;
  for (const auto& path : documented) {
    // The golden model has no tokenizer to copy.
    EXPECT_TRUE(found.contains(path) || path.find("tokenizer") != std::string::npos) << path;
  }
}

TEST(FormatsPlanted, ReadersOfPagesReadWhatIsThere) {
  EXPECT_EQ(bytes_of("01 00   one\nff  last").size(), 3u);
  const auto fields =
      fields_of("| field | what |\n|---|---|\n| `a` | x |\n| `b` | only with c |\n");
  EXPECT_EQ(fields.all, (std::set<std::string>{"a", "b"}));
  EXPECT_EQ(fields.always, std::set<std::string>{"a"});
}

}  // namespace
}  // namespace strata

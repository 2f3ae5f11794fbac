// docs/formats/ledger.md against records that a ledger wrote: every kind and field is on the page,
// and the page has no other.
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "privacy/ledger/ledger_fixture.h"
#include "support/markdown.h"
#include "support/process.h"
#include "support/source_tree.h"

namespace strata::ledger {
namespace {

std::set<std::string> fields_in(const std::string& section) {
  std::set<std::string> out;
  for (const auto& cells : support::table_rows(section))
    out.insert(support::without_quotes(cells.front()));
  return out;
}

TEST_F(LedgerTest, HasTheRecordsAndFieldsOfItsPage) {
  Ledger ledger = with_wards();
  ASSERT_TRUE(ledger.add_dataset(terms_of("wards"), rows(ledger, 0, 11)));
  ASSERT_TRUE(ledger.reserve(round_of("wards", 1)));
  ASSERT_TRUE(ledger.release("wards", "run-1", 1, Sha256{}));
  ASSERT_TRUE(ledger.reserve(round_of("wards", 2)));
  ASSERT_TRUE(ledger.abandon("wards", "run-1", 2));
  ASSERT_TRUE(ledger.close("wards"));
  const std::string page = support::read_file(support::source_root() / "docs/formats/ledger.md");
  const support::Markdown document(page);
  const std::set<std::string> common{"seq", "prev", "nonce", "time", "host", "crc"};
  const auto front = fields_in(page.substr(0, page.find("## created")));
  EXPECT_TRUE(std::includes(front.begin(), front.end(), common.begin(), common.end()));
  std::istringstream lines(text());
  std::set<std::string> kinds;
  for (std::string line; std::getline(lines, line);) {
    std::set<std::string> found;
    const auto record = nlohmann::json::parse(line);
    for (const auto& [field, value] : record.items()) {
      if (!common.contains(field)) found.insert(field);
    }
    const std::string kind = record["type"];
    kinds.insert(kind);
    EXPECT_EQ(found, fields_in(document.section(kind).text)) << kind;
  }
  EXPECT_EQ(kinds, (std::set<std::string>{"created", "open", "rows", "reserve", "release",
                                          "abandon", "close"}));
}

}  // namespace
}  // namespace strata::ledger

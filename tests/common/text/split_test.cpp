#include "text/split.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <set>

namespace strata::text {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<Record> labelled(std::initializer_list<std::pair<const char*, int>> counts) {
  std::vector<Record> out;
  for (const auto& [label, count] : counts) {
    for (int i = 0; i < count; ++i)
      out.push_back(
          {PlainText{"x"}, {{"label", label}}, "f.jsonl:" + std::to_string(out.size() + 1)});
  }
  return out;
}

// Every record in exactly one share.
void expect_partition(const std::vector<Share>& shares, std::size_t records) {
  std::set<std::size_t> seen;
  std::size_t total = 0;
  for (const auto& share : shares) {
    EXPECT_FALSE(share.records.empty()) << share.client;
    EXPECT_TRUE(std::ranges::is_sorted(share.records));
    seen.insert(share.records.begin(), share.records.end());
    total += share.records.size();
  }
  EXPECT_EQ(total, records);
  EXPECT_EQ(seen.size(), records);
  EXPECT_LT(*seen.rbegin(), records);
}

// Mean over clients of the largest share one label has of a client's records: 1 when each client
// sees one label.
double concentration(const std::vector<Share>& shares, const std::vector<Record>& records) {
  double sum = 0;
  for (const auto& share : shares) {
    std::map<std::string_view, std::size_t> counts;
    std::size_t largest = 0;
    for (const auto i : share.records)
      largest = std::max(largest, ++counts[*records[i].field("label")]);
    sum += static_cast<double>(largest) / static_cast<double>(share.records.size());
  }
  return sum / static_cast<double>(shares.size());
}

TEST(Split, NamesSortAsNumbers) {
  EXPECT_THAT(client_names(2), ElementsAre("client-1", "client-2"));
  EXPECT_EQ(client_names(12)[1], "client-02");
}

TEST(Split, IidSharesDifferByAtMostOneAndDependOnTheSeedOnly) {
  const auto names = client_names(3);
  const auto shares = split_iid(11, names, sys::Stream(1));
  ASSERT_TRUE(shares);
  expect_partition(*shares, 11);
  for (const auto& share : *shares) EXPECT_THAT(share.records.size(), ::testing::AnyOf(3u, 4u));
  EXPECT_EQ((*split_iid(11, names, sys::Stream(1)))[0].records, (*shares)[0].records);
  EXPECT_NE((*split_iid(11, names, sys::Stream(2)))[0].records, (*shares)[0].records);
}

TEST(Split, IidRefusesMoreClientsThanRecords) {
  const auto shares = split_iid(2, client_names(3), sys::Stream(1));
  ASSERT_FALSE(shares);
  EXPECT_EQ(shares.error().code, ErrorCode::kData);
  EXPECT_THAT(shares.error().line(), HasSubstr("2 records for 3 clients"));
}

TEST(Split, AFieldGivesOneClientAValue) {
  const auto shares = split_by_field(labelled({{"b", 2}, {"a", 1}}), "label");
  ASSERT_TRUE(shares);
  ASSERT_EQ(shares->size(), 2u);
  EXPECT_EQ((*shares)[0].client, "b");
  EXPECT_THAT((*shares)[0].records, ElementsAre(0, 1));
  EXPECT_THAT((*shares)[1].records, ElementsAre(2));
}

TEST(Split, ValuesAreDealtToTheLightestClientWithoutCuttingOne) {
  const auto records = labelled({{"a", 5}, {"b", 3}, {"c", 3}, {"d", 1}});
  const auto shares = split_by_field(records, "label", client_names(2));
  ASSERT_TRUE(shares);
  expect_partition(*shares, 12);
  EXPECT_THAT((*shares)[0].records, ElementsAre(0, 1, 2, 3, 4, 11));  // a, d
  EXPECT_THAT((*shares)[1].records.size(), 6u);                       // b, c
}

TEST(Split, AFieldThatIsMissingOrTooPoorIsNamed) {
  auto records = labelled({{"a", 2}, {"b", 1}});
  const auto missing = split_by_field(records, "user");
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().line(),
              AllOf(HasSubstr("f.jsonl:1"), HasSubstr("\"user\""), HasSubstr("label")));
  const auto few = split_by_field(records, "label", client_names(3));
  ASSERT_FALSE(few);
  EXPECT_THAT(few.error().line(), HasSubstr("2 values of label for 3 clients"));
  EXPECT_FALSE(split_by_field(labelled({{"a", 3}}), "label"));
}

TEST(Split, SmallAlphaSeparatesLabelsAndLargeAlphaMixesThem) {
  const auto records = labelled({{"a", 200}, {"b", 200}, {"c", 200}, {"d", 200}});
  const auto names = client_names(4);
  double separated = 0;
  double mixed = 0;
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    const auto small = split_dirichlet(records, "label", 0.1, names, sys::Stream(seed));
    const auto large = split_dirichlet(records, "label", 100, names, sys::Stream(seed));
    ASSERT_TRUE(small && large);
    expect_partition(*small, records.size());
    expect_partition(*large, records.size());
    separated += concentration(*small, records) / 5;
    mixed += concentration(*large, records) / 5;
  }
  EXPECT_GT(separated, 0.6);
  EXPECT_LT(mixed, 0.35);
}

TEST(Split, DirichletIsTheSameForTheSameSeed) {
  const auto records = labelled({{"a", 30}, {"b", 30}});
  const auto first = split_dirichlet(records, "label", 0.5, client_names(3), sys::Stream(7));
  const auto again = split_dirichlet(records, "label", 0.5, client_names(3), sys::Stream(7));
  const auto other = split_dirichlet(records, "label", 0.5, client_names(3), sys::Stream(8));
  ASSERT_TRUE(first && again && other);
  EXPECT_EQ((*first)[0].records, (*again)[0].records);
  EXPECT_NE((*first)[0].records, (*other)[0].records);
}

TEST(Split, DirichletGivesUpWithAClearErrorWhenAClientStaysEmpty) {
  const auto shares =
      split_dirichlet(labelled({{"a", 40}}), "label", 1e-6, client_names(4), sys::Stream(1));
  ASSERT_FALSE(shares);
  EXPECT_EQ(shares.error().code, ErrorCode::kData);
  EXPECT_THAT(shares.error().line(), HasSubstr("raise alpha"));
}

TEST(Split, HoldsOutTheFractionAskedForButNeverAllNorNothing) {
  const auto tenth = hold_out(100, 0.1, sys::Stream(3));
  ASSERT_TRUE(tenth);
  EXPECT_EQ(tenth->held_out.size(), 10u);
  EXPECT_EQ(tenth->train.size(), 90u);
  std::vector<std::size_t> all = tenth->train;
  all.insert(all.end(), tenth->held_out.begin(), tenth->held_out.end());
  std::ranges::sort(all);
  std::vector<std::size_t> expected(100);
  std::iota(expected.begin(), expected.end(), std::size_t{0});
  EXPECT_EQ(all, expected);
  EXPECT_EQ(hold_out(2, 0.01, sys::Stream(3))->held_out.size(), 1u);
  EXPECT_EQ(hold_out(2, 0.99, sys::Stream(3))->train.size(), 1u);
  EXPECT_FALSE(hold_out(1, 0.5, sys::Stream(3)));
}

TEST(Split, SelectCopiesTheRecordsNumbered) {
  const auto records = labelled({{"a", 2}, {"b", 2}});
  const std::vector<std::size_t> numbers{1, 3};
  const auto chosen = select(records, numbers);
  ASSERT_EQ(chosen.size(), 2u);
  EXPECT_EQ(chosen[1].field("label"), "b");
}

}  // namespace
}  // namespace strata::text

#include "client/passes.h"

#include <gtest/gtest.h>

#include <numeric>

namespace strata::client {
namespace {

std::vector<text::Example> of_lengths(const std::vector<std::size_t>& lengths) {
  std::vector<text::Example> out;
  out.reserve(lengths.size());
  for (const std::size_t n : lengths) {
    out.push_back({.tokens = std::vector<text::TokenId>(n, 1),
                   .trained = std::vector<std::uint8_t>(n, 1),
                   .source = "test"});
  }
  return out;
}

std::vector<std::size_t> counts(const std::vector<std::size_t>& lengths, std::size_t tokens,
                                std::size_t records) {
  const auto examples = of_lengths(lengths);
  std::vector<std::size_t> order(lengths.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::vector<std::size_t> out;
  std::size_t next = 0;
  for (const PassRange& pass : plan_passes(examples, order, tokens, records)) {
    EXPECT_EQ(pass.first, next);
    next += pass.count;
    out.push_back(pass.count);
  }
  EXPECT_EQ(next, lengths.size());
  return out;
}

using Counts = std::vector<std::size_t>;

TEST(Passes, TakeEverythingAtOnceWhenItFits) { EXPECT_EQ(counts({10, 20, 30}, 60, 9), Counts{3}); }

TEST(Passes, AreOfNearlyTheSameSize) {
  // Filling each pass to the brim would give 6, 6 and 1 records.
  EXPECT_EQ(counts(std::vector<std::size_t>(13, 10), 60, 99), (Counts{4, 4, 5}));
}

TEST(Passes, NeverHoldMoreThanAllowed) {
  EXPECT_EQ(counts({50, 30, 40, 10}, 60, 9), (Counts{1, 1, 2}));
  EXPECT_EQ(counts({5, 5, 5, 5, 5}, 1000, 2), (Counts{2, 2, 1}));
}

TEST(Passes, GiveALongRecordAPassOfItsOwn) {
  EXPECT_EQ(counts({10, 500, 10}, 60, 9), (Counts{1, 1, 1}));
}

TEST(Passes, OfNoRecordsAreNone) { EXPECT_TRUE(counts({}, 60, 9).empty()); }

}  // namespace
}  // namespace strata::client

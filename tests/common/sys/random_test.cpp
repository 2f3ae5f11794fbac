// The streams of draws: the generator's published answers, addresses, and the distributions. All
// draws are seeded, so a test either always passes or always fails; the bounds of the moments are
// five standard errors.
#include "sys/random.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <vector>

namespace strata::sys {
namespace {

using testing::ElementsAre;

using Counter = std::array<std::uint32_t, 4>;
using Key = std::array<std::uint32_t, 2>;

// Philox4x32 with ten rounds as the paper writes it (Salmon et al. 2011, section 3.3 and its
// constants), apart from the library the streams use.
Counter philox(Counter c, Key k) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t left = std::uint64_t{0xD2511F53} * c[0];
    const std::uint64_t right = std::uint64_t{0xCD9E8D57} * c[2];
    c = {static_cast<std::uint32_t>(right >> 32) ^ c[1] ^ k[0], static_cast<std::uint32_t>(right),
         static_cast<std::uint32_t>(left >> 32) ^ c[3] ^ k[1], static_cast<std::uint32_t>(left)};
    k = {k[0] + 0x9E3779B9u, k[1] + 0xBB67AE85u};
  }
  return c;
}

// "philox4x32 10" of Random123's kat_vectors.
TEST(PhiloxByThePaper, GivesTheKnownAnswersOfRandom123) {
  EXPECT_THAT(philox({0, 0, 0, 0}, {0, 0}),
              ElementsAre(0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u));
  EXPECT_THAT(philox({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
              ElementsAre(0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu));
  EXPECT_THAT(
      philox({0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}, {0xa4093822u, 0x299f31d0u}),
      ElementsAre(0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u));
}

TEST(Stream, WordsArePhiloxKeyedByTheSeed) {
  for (const std::uint64_t seed : {std::uint64_t{0}, std::uint64_t{0x299f31d0a4093822}}) {
    const Stream stream(seed);
    for (const std::uint64_t block : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1} << 40}) {
      const Counter words = philox(
          {static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32), 0, 0xd7a7u},
          {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)});
      for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(stream.word(4 * block + i), words[i]);
    }
  }
}

// These values are the format of a run's randomness: whoever changes them changes every run.
TEST(Stream, DrawsOfAnAddressStayWhatTheyWere) {
  Stream stream = Stream(42).at(
      {.client = name_hash("anna"), .round = 3, .step = 7, .purpose = "shuffle", .item = 5});
  EXPECT_THAT((std::array{stream.next(), stream.next(), stream.next()}),
              ElementsAre(1190138336u, 2877011092u, 3883911718u));
  EXPECT_THAT(stream.permutation(6), ElementsAre(2, 3, 1, 4, 0, 5));
}

TEST(Stream, DrawsOfAnAddressDoNotDependOnWhatWasDrawnBefore) {
  const Address address{.client = 1, .round = 2, .step = 3, .purpose = "init", .item = 4};
  Stream root(9);
  Stream early = root.at(address);
  for (int i = 0; i < 100; ++i) (void)root.next();
  (void)root.at({.purpose = "other"}).normal();
  Stream late = root.at(address);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(early.next(), late.next());
}

TEST(Stream, WordsCanBeReadInAnyOrderAndDoNotMoveTheStream) {
  Stream moving(7);
  const Stream still = moving;
  EXPECT_EQ(moving.word(12), still.word(12));
  for (std::uint64_t i = 0; i < 20; ++i) EXPECT_EQ(moving.next(), still.word(i));
}

TEST(Stream, CopiesAreIndependent) {
  Stream one(7);
  (void)one.next();
  Stream two = one;
  const auto expected = two.next();
  (void)two.next();
  EXPECT_EQ(one.next(), expected);
}

TEST(Stream, EveryPartOfAnAddressCountsAndPartsDoNotTradePlaces) {
  const Stream root(3);
  const std::vector<Address> addresses{
      {},
      {.client = 1},
      {.round = 1},
      {.step = 1},
      {.item = 1},
      {.client = 1, .round = 1},
      {.round = 1, .step = 1},
      {.round = 2, .step = 1},
      {.round = 1, .step = 2},
      {.purpose = "init"},
      {.purpose = "shuffle"},
      {.purpose = "init", .item = 1},
  };
  std::set<std::uint64_t> first;
  for (const auto& address : addresses) {
    Stream stream = root.at(address);
    first.insert((std::uint64_t{stream.next()} << 32) | stream.next());
  }
  first.insert((std::uint64_t{root.word(0)} << 32) | root.word(1));
  EXPECT_EQ(first.size(), addresses.size() + 1);
}

TEST(Stream, UniformStaysInItsIntervalAndFillsItEvenly) {
  Stream stream(1);
  constexpr int kDraws = 100000, kCells = 10;
  std::array<int, kCells> count{};
  double sum = 0.0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = stream.uniform();
    ASSERT_GE(x, 0.0);
    ASSERT_LT(x, 1.0);
    ++count[static_cast<std::size_t>(x * kCells)];
    sum += x;
  }
  EXPECT_NEAR(sum / kDraws, 0.5, 5.0 * std::sqrt(1.0 / 12.0 / kDraws));
  for (const int n : count)
    EXPECT_NEAR(n, static_cast<double>(kDraws) / kCells, 5.0 * std::sqrt(kDraws * 0.1 * 0.9));
}

TEST(Stream, UniformBetweenBoundsStaysBetweenThem) {
  Stream stream(2);
  for (int i = 0; i < 1000; ++i) {
    const double x = stream.uniform(-3.0, -1.0);
    EXPECT_GE(x, -3.0);
    EXPECT_LT(x, -1.0);
  }
}

TEST(Stream, NormalHasTheMomentsOfTheStandardNormal) {
  Stream stream(4);
  constexpr int kDraws = 200000;
  std::array<double, 5> moment{};
  int inside = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = stream.normal();
    for (int p = 1; p <= 4; ++p) moment[static_cast<std::size_t>(p)] += std::pow(x, p) / kDraws;
    inside += std::abs(x) < 1.0 ? 1 : 0;
  }
  // Variances of x, x^2, x^3, x^4: 1, 2, 15, 96.
  EXPECT_NEAR(moment[1], 0.0, 5.0 * std::sqrt(1.0 / kDraws));
  EXPECT_NEAR(moment[2], 1.0, 5.0 * std::sqrt(2.0 / kDraws));
  EXPECT_NEAR(moment[3], 0.0, 5.0 * std::sqrt(15.0 / kDraws));
  EXPECT_NEAR(moment[4], 3.0, 5.0 * std::sqrt(96.0 / kDraws));
  const double share = std::erf(std::sqrt(0.5));
  EXPECT_NEAR(static_cast<double>(inside) / kDraws, share,
              5.0 * std::sqrt(share * (1.0 - share) / kDraws));
}

TEST(Stream, GammaHasMeanAndVarianceEqualToItsShape) {
  for (const double shape : {0.1, 0.5, 1.0, 2.5, 40.0}) {
    Stream stream(5);
    constexpr int kDraws = 50000;
    double sum = 0.0, squares = 0.0;
    for (int i = 0; i < kDraws; ++i) {
      const double x = stream.gamma(shape);
      ASSERT_GE(x, 0.0);
      sum += x;
      squares += (x - shape) * (x - shape);
    }
    EXPECT_NEAR(sum / kDraws, shape, 5.0 * std::sqrt(shape / kDraws)) << shape;
    // The fourth central moment of Gamma(k, 1) is 3 k^2 + 6 k.
    EXPECT_NEAR(squares / kDraws, shape,
                5.0 * std::sqrt((2.0 * shape * shape + 6.0 * shape) / kDraws))
        << shape;
  }
}

TEST(Stream, BelowGivesEveryValueAsOften) {
  for (const std::uint64_t n : {1u, 2u, 3u, 7u, 100u}) {
    Stream stream(6);
    constexpr int kDraws = 70000;
    std::vector<int> count(n);
    for (int i = 0; i < kDraws; ++i) {
      const auto draw = stream.below(n);
      ASSERT_LT(draw, n);
      ++count[draw];
    }
    const double p = 1.0 / static_cast<double>(n);
    for (const int c : count) EXPECT_NEAR(c, kDraws * p, 5.0 * std::sqrt(kDraws * p * (1 - p)));
  }
}

// With n = 3/4 of 2^64 a plain remainder gives the lowest third twice as often.
TEST(Stream, BelowIsUnbiasedForLargeN) {
  Stream stream(8);
  constexpr std::uint64_t kN = 3ULL << 62;
  constexpr int kDraws = 30000;
  std::array<int, 3> thirds{};
  for (int i = 0; i < kDraws; ++i) {
    const auto draw = stream.below(kN);
    ASSERT_LT(draw, kN);
    ++thirds[draw / (kN / 3)];
  }
  for (const int c : thirds)
    EXPECT_NEAR(c, kDraws / 3.0, 5.0 * std::sqrt(kDraws * (1.0 / 3.0) * (2.0 / 3.0)));
}

TEST(Stream, PermutationHoldsEachIndexOnce) {
  for (const std::size_t n : {0u, 1u, 2u, 17u, 1000u}) {
    Stream stream(10);
    auto order = stream.permutation(n);
    std::sort(order.begin(), order.end());
    std::vector<std::size_t> expected(n);
    std::iota(expected.begin(), expected.end(), std::size_t{0});
    EXPECT_EQ(order, expected);
  }
}

TEST(Stream, AllOrdersOfThreeComeAsOften) {
  Stream stream(11);
  constexpr int kDraws = 30000;
  std::map<std::vector<std::size_t>, int> count;
  for (int i = 0; i < kDraws; ++i) ++count[stream.permutation(3)];
  ASSERT_EQ(count.size(), 6u);
  for (const auto& [order, n] : count)
    EXPECT_NEAR(n, kDraws / 6.0, 5.0 * std::sqrt(kDraws * (1.0 / 6.0) * (5.0 / 6.0)));
}

// The reference values of FNV-1a (draft-eastlake-fnv, appendix C).
TEST(NameHash, IsFnv1a) {
  EXPECT_EQ(name_hash(""), 0xcbf29ce484222325ULL);
  EXPECT_EQ(name_hash("a"), 0xaf63dc4c8601ec8cULL);
  EXPECT_EQ(name_hash("foobar"), 0x85944171f73967e8ULL);
}

}  // namespace
}  // namespace strata::sys

// The expected noise of a merged change against noise that is drawn.
#include "privacy/merged_noise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

namespace strata::privacy {
namespace {

struct Drawn {
  std::size_t rows, columns;
  std::vector<double> values;
  Drawn(std::size_t r, std::size_t c) : rows(r), columns(c), values(r * c) {}
  double& at(std::size_t i, std::size_t j) { return values[i * columns + j]; }
  [[nodiscard]] double at(std::size_t i, std::size_t j) const { return values[i * columns + j]; }
};

class Draws {
 public:
  Drawn normal(std::size_t r, std::size_t c, double variance) {
    std::normal_distribution<double> law(0.0, std::sqrt(variance));
    Drawn out(r, c);
    for (double& value : out.values) value = variance > 0.0 ? law(draw_) : 0.0;
    return out;
  }
  Drawn fresh_a(std::size_t r, std::size_t c) {
    const double bound = 1.0 / std::sqrt(static_cast<double>(c));
    std::uniform_real_distribution<double> law(-bound, bound);
    Drawn out(r, c);
    for (double& value : out.values) value = law(draw_);
    return out;
  }

 private:
  std::mt19937 draw_{7};
};

void add(Drawn& to, const Drawn& other, double factor) {
  for (std::size_t i = 0; i < to.values.size(); ++i) to.values[i] += factor * other.values[i];
}

void add_product(Drawn& to, const Drawn& b, const Drawn& a, double factor) {
  for (std::size_t i = 0; i < b.rows; ++i) {
    for (std::size_t r = 0; r < b.columns; ++r) {
      for (std::size_t j = 0; j < a.columns; ++j) to.at(i, j) += factor * b.at(i, r) * a.at(r, j);
    }
  }
}

double squared(const Drawn& m) {
  double sum = 0.0;
  for (const double value : m.values) sum += value * value;
  return sum;
}

constexpr std::size_t kRows = 24, kColumns = 16;
constexpr int kTimes = 300;

// Shapes and variances so that both terms matter, and unequal clients.
const std::vector<NoisyFactors> kClients{
    {.weight = 0.2, .scale = 2.0, .rank = 4, .a = .02, .b = .5},
    {.weight = 0.8, .scale = 0.5, .rank = 2, .a = .04, .b = 2}};

TEST(MergedNoise, IsTheNoiseOfStackedProducts) {
  Draws draws;
  double mean = 0.0;
  for (int i = 0; i < kTimes; ++i) {
    Drawn change(kRows, kColumns);
    for (const auto& c : kClients) {
      Drawn a = draws.fresh_a(c.rank, kColumns);
      add(a, draws.normal(c.rank, kColumns, c.a), 1.0);
      add_product(change, draws.normal(kRows, c.rank, c.b), a, c.weight * c.scale);
    }
    mean += squared(change) / kTimes;
  }
  const auto expected = merged_noise(kRows, kColumns, kClients, Merge::kProducts);
  EXPECT_NEAR(mean / (expected.linear + expected.product), 1.0, 0.05);
  EXPECT_GT(expected.product, 0.3 * expected.linear);  // or half of the formula is untested
  EXPECT_DOUBLE_EQ(expected.norm(), std::sqrt(expected.linear + expected.product));
}

TEST(MergedNoise, IsTheNoiseOfAveragedFactors) {
  std::vector<NoisyFactors> clients{{.weight = 0.4, .scale = 2.0, .rank = 3, .a = .02, .b = .5},
                                    {.weight = 0.6, .scale = 2.0, .rank = 3, .a = .01, .b = 1}};
  Draws draws;
  for (const bool own_a : {false, true}) {
    for (auto& c : clients) c.own_a = own_a;
    double mean = 0.0;
    for (int i = 0; i < kTimes; ++i) {
      Drawn change(kRows, kColumns), a(3, kColumns), b(kRows, 3);
      if (!own_a) a = draws.fresh_a(3, kColumns);
      for (const auto& c : clients) {
        if (own_a) add(a, draws.fresh_a(3, kColumns), c.weight);
        add(a, draws.normal(3, kColumns, c.a), c.weight);
        add(b, draws.normal(kRows, 3, c.b), c.weight);
      }
      add_product(change, b, a, 2.0);
      mean += squared(change) / kTimes;
    }
    const auto expected = merged_noise(kRows, kColumns, clients, Merge::kFactors);
    EXPECT_NEAR(mean / (expected.linear + expected.product), 1.0, 0.05);
    const auto stacked = merged_noise(kRows, kColumns, clients, Merge::kProducts);
    EXPECT_DOUBLE_EQ(expected.linear, stacked.linear * (own_a ? 0.4 * 0.4 + 0.6 * 0.6 : 1.0));
    EXPECT_LT(expected.product, stacked.product);
  }
}

TEST(MergedNoise, HasNoProductOnAFrozenA) {
  auto clients = kClients;
  for (auto& c : clients) c.a = 0.0;
  const auto frozen = merged_noise(kRows, kColumns, clients, Merge::kProducts);
  const auto both = merged_noise(kRows, kColumns, kClients, Merge::kProducts);
  EXPECT_EQ(frozen.product, 0.0);
  EXPECT_DOUBLE_EQ(frozen.linear, both.linear);
}

}  // namespace
}  // namespace strata::privacy

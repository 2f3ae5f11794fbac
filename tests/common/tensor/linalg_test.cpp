#include "tensor/linalg.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace strata::tensor {
namespace {

Matrix random_matrix(std::size_t rows, std::size_t cols, unsigned seed) {
  std::mt19937 draw(seed);
  std::normal_distribution<float> normal;
  Matrix out(rows, cols);
  for (float& value : out.values()) value = normal(draw);
  return out;
}

Doubles wide(const Matrix& m) {
  Doubles out(m.rows(), m.cols());
  std::copy(m.values().begin(), m.values().end(), out.values.begin());
  return out;
}

// The plain triple loop that everything here is compared with.
Doubles product(const Doubles& x, const Doubles& y) {
  Doubles out(x.rows, y.cols);
  for (std::size_t i = 0; i < x.rows; ++i) {
    for (std::size_t j = 0; j < x.cols; ++j) {
      for (std::size_t c = 0; c < y.cols; ++c) out(i, c) += x(i, j) * y(j, c);
    }
  }
  return out;
}

Doubles transpose(const Doubles& m) {
  Doubles out(m.cols, m.rows);
  for (std::size_t i = 0; i < m.rows; ++i) {
    for (std::size_t j = 0; j < m.cols; ++j) out(j, i) = m(i, j);
  }
  return out;
}

double distance(const Doubles& x, const Doubles& y) {
  EXPECT_EQ(x.values.size(), y.values.size());
  double sum = 0.0;
  for (std::size_t i = 0; i < x.values.size(); ++i)
    sum += (x.values[i] - y.values[i]) * (x.values[i] - y.values[i]);
  return std::sqrt(sum);
}

double norm(const Doubles& x) { return distance(x, Doubles(x.rows, x.cols)); }

double off_identity(const Doubles& q) {
  Doubles identity(q.cols, q.cols);
  for (std::size_t i = 0; i < q.cols; ++i) identity(i, i) = 1.0;
  return distance(product(transpose(q), q), identity);
}

TEST(ThinQr, RebuildsTheMatrixWithNonNegativeDiagonal) {
  for (const auto& [rows, cols] : {std::pair<std::size_t, std::size_t>{9, 4}, {4, 9}, {5, 5}}) {
    const Doubles m = wide(random_matrix(rows, cols, 1));
    const ThinQr out = thin_qr(m);
    EXPECT_LT(distance(product(out.q, out.r), m), 1e-13);
    EXPECT_LT(off_identity(out.q), 1e-13);
    for (std::size_t i = 0; i < out.r.rows; ++i) {
      EXPECT_GE(out.r(i, i), 0.0);
      for (std::size_t j = 0; j < i; ++j) EXPECT_EQ(out.r(i, j), 0.0);
    }
  }
}

TEST(Svd, RebuildsTheMatrixAndFixesSigns) {
  for (const auto& [rows, cols] : {std::pair<std::size_t, std::size_t>{30, 17}, {17, 30}}) {
    const Doubles m = wide(random_matrix(rows, cols, 2));
    const Svd out = svd(m);
    Doubles scaled = out.u;
    for (std::size_t i = 0; i < scaled.rows; ++i) {
      for (std::size_t j = 0; j < scaled.cols; ++j) scaled(i, j) *= out.s[j];
    }
    EXPECT_LT(distance(product(scaled, transpose(out.v)), m), 1e-12);
    for (std::size_t j = 0; j < out.u.cols; ++j) {
      double largest = 0.0;
      for (std::size_t i = 0; i < out.u.rows; ++i)
        largest = std::abs(out.u(i, j)) > std::abs(largest) ? out.u(i, j) : largest;
      EXPECT_GT(largest, 0.0);
      EXPECT_GE(out.s[j == 0 ? 0 : j - 1], out.s[j]);
    }
  }
}

TEST(Recompress, ReportsTheTrueErrorOfEachRank) {
  const Matrix b = random_matrix(40, 12, 3), a = random_matrix(12, 25, 4);
  const Doubles whole = product(wide(b), wide(a));
  for (std::size_t q = 0; q <= 12; ++q) {
    const Recompressed out = recompress({b.view(), a.view()}, {.max_rank = q});
    ASSERT_EQ(out.rank(), q);
    const double error = distance(product(out.b, out.a), whole);
    EXPECT_NEAR(error, out.error, 1e-10 * norm(whole)) << q;
    if (q < 12) {
      EXPECT_NEAR(error / out.error, 1.0, 1e-10) << q;
    }
    EXPECT_NEAR(out.norm, norm(whole), 1e-10 * norm(whole));
  }
}

TEST(Recompress, TakesTheSmallestRankWithinTheAllowedError) {
  const Matrix b = random_matrix(40, 12, 5), a = random_matrix(12, 25, 6);
  const Recompressed all = recompress({b.view(), a.view()});
  ASSERT_EQ(all.rank(), 12U);
  for (const double allowed : {0.5, 0.2, 0.05}) {
    const Recompressed relative = recompress({b.view(), a.view()}, {.relative_error = allowed});
    EXPECT_LE(relative.error, allowed * all.norm);
    const Recompressed smaller =
        recompress({b.view(), a.view()}, {.max_rank = relative.rank() - 1});
    EXPECT_GT(smaller.error, allowed * all.norm);
    EXPECT_EQ(recompress({b.view(), a.view()}, {.absolute_error = allowed * all.norm}).rank(),
              relative.rank());
  }
}

TEST(Recompress, FindsTheRankOfARepeatedFactorAndOfZero) {
  const Matrix a = random_matrix(3, 25, 7), b = random_matrix(40, 6, 8);
  Matrix twice(6, 25);  // the same three rows, weighted differently: rank 3
  for (std::size_t i = 0; i < 6; ++i) {
    for (std::size_t j = 0; j < 25; ++j) twice(i, j) = a(i % 3, j) * (i < 3 ? 0.25f : 0.75f);
  }
  EXPECT_EQ(recompress({b.view(), twice.view()}).rank(), 3U);
  const Recompressed zero = recompress({Matrix(40, 6).view(), twice.view()});
  EXPECT_EQ(zero.rank(), 0U);
  EXPECT_EQ(zero.error, 0.0);
}

TEST(Recompress, HandlesMoreColumnsThanTheLayerHasRows) {
  for (const auto& [rows, cols] : {std::pair<std::size_t, std::size_t>{7, 30}, {30, 7}, {7, 9}}) {
    const Matrix b = random_matrix(rows, 16, 9), a = random_matrix(16, cols, 10);
    const Recompressed out = recompress({b.view(), a.view(), 0.5});
    EXPECT_EQ(out.rank(), 7U);
    Doubles whole = product(wide(b), wide(a));
    for (double& value : whole.values) value *= 0.5;
    EXPECT_LT(distance(product(out.b, out.a), whole), 1e-12 * norm(whole));
  }
}

TEST(Recompress, DoesNotDependOnTheGauge) {
  const Matrix b = random_matrix(40, 2, 11), a = random_matrix(2, 25, 12);
  Matrix other_b(40, 2), other_a(2, 25);  // G = [[2, 0], [4, 8]], powers of two: exact in float
  for (std::size_t i = 0; i < 40; ++i) {
    other_b(i, 0) = 2.0f * b(i, 0) + 4.0f * b(i, 1);
    other_b(i, 1) = 8.0f * b(i, 1);
  }
  for (std::size_t j = 0; j < 25; ++j) {
    other_a(0, j) = 0.5f * a(0, j);
    other_a(1, j) = 0.125f * a(1, j) - 0.25f * a(0, j);
  }
  const Recompressed x = recompress({b.view(), a.view()}),
                     y = recompress({other_b.view(), other_a.view()});
  EXPECT_LT(distance(x.b, y.b), 1e-5 * norm(x.b));
  EXPECT_LT(distance(x.a, y.a), 1e-5 * norm(x.a));
}

TEST(Gram, EqualsInnerProductsOfDenseUpdates) {
  std::vector<Matrix> b, a;
  std::vector<FactorView> views;
  std::vector<Doubles> dense;
  for (unsigned k = 0; k < 3; ++k) {
    b.push_back(random_matrix(19, 2 + k, 20 + k));
    a.push_back(random_matrix(2 + k, 11, 30 + k));
  }
  for (unsigned k = 0; k < 3; ++k) {
    views.push_back({b[k].view(), a[k].view(), 0.5 + k});
    dense.push_back(product(wide(b[k]), wide(a[k])));
    for (double& value : dense.back().values) value *= 0.5 + k;
  }
  const Doubles g = gram(views);
  Doubles sum(19, 11);
  for (std::size_t i = 0; i < 3; ++i) {
    for (std::size_t j = 0; j < 3; ++j) {
      double expected = 0.0;
      for (std::size_t at = 0; at < dense[i].values.size(); ++at)
        expected += dense[i].values[at] * dense[j].values[at];
      EXPECT_NEAR(g(i, j), expected, 1e-11 * norm(dense[i]) * norm(dense[j]));
    }
    for (std::size_t at = 0; at < sum.values.size(); ++at) sum.values[at] += dense[i].values[at];
  }
  EXPECT_NEAR(frobenius_norm(views), norm(sum), 1e-11 * norm(sum));
}

TEST(AddProductRows, AddsTheNamedRowsOfTheWeightedProduct) {
  const Matrix b = random_matrix(19, 4, 40), a = random_matrix(4, 11, 41);
  const Doubles whole = product(wide(b), wide(a));
  std::vector<double> out(std::size_t{6} * 11, 1.0);
  add_product_rows(out, {b.view(), a.view(), 0.3}, 7, 6);
  for (std::size_t i = 0; i < 6; ++i) {
    for (std::size_t j = 0; j < 11; ++j)
      EXPECT_NEAR(out[i * 11 + j], 1.0 + 0.3 * whole(7 + i, j), 1e-12);
  }
}

}  // namespace
}  // namespace strata::tensor

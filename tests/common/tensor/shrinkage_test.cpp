#include "tensor/shrinkage.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace strata::tensor {
namespace {

// Double references by plain loops.
Doubles product(const Doubles& x, const Doubles& y) {
  Doubles out(x.rows, y.cols);
  for (std::size_t i = 0; i < x.rows; ++i) {
    for (std::size_t j = 0; j < x.cols; ++j) {
      for (std::size_t c = 0; c < y.cols; ++c) out(i, c) += x(i, j) * y(j, c);
    }
  }
  return out;
}

Doubles wide(const Matrix& m) {
  Doubles out(m.rows(), m.cols());
  std::copy(m.values().begin(), m.values().end(), out.values.begin());
  return out;
}

double distance(const Doubles& x, const Doubles& y) {
  double sum = 0.0;
  for (std::size_t i = 0; i < x.values.size(); ++i)
    sum += (x.values[i] - y.values[i]) * (x.values[i] - y.values[i]);
  return std::sqrt(sum);
}

Matrix normals(std::mt19937& draw, std::size_t rows, std::size_t cols, double deviation = 1.0) {
  std::normal_distribution<double> normal(0.0, deviation);
  Matrix out(rows, cols);
  for (float& value : out.values()) value = static_cast<float>(normal(draw));
  return out;
}

Matrix identity(std::size_t n) {
  Matrix out(n, n);
  for (std::size_t i = 0; i < n; ++i) out(i, i) = 1.0F;
  return out;
}

Doubles added(const Matrix& x, const Matrix& y) {
  Doubles out = wide(x);
  for (std::size_t i = 0; i < out.values.size(); ++i)
    out.values[i] += static_cast<double>(y.values()[i]);
  return out;
}

// A planted singular value x in unit noise is seen at y(x), and the best that a shrinker can do
// about it costs 1 - c^2 c~^2 of x^2 (Gavish and Donoho 2017, equations 5 to 7 and lemma 1).
double seen(double x, double beta) { return std::sqrt((x + 1.0 / x) * (x + beta / x)); }
double least_loss(double x, double beta) {
  const double x2 = x * x, x4 = x2 * x2;
  const double left = (x4 - beta) / (x4 + beta * x2);
  const double right = (x4 - beta) / (x4 + x2);
  return x2 * (1.0 - left * right);
}

TEST(SeenBy, IsZeroUpToTheEdgeAndTheIdentityFarAbove) {
  for (const double beta : {1e-6, 0.1, 0.5, 1.0}) {
    const double edge = 1.0 + std::sqrt(beta);
    EXPECT_EQ(seen_by(0.0, beta).eta, 0.0);
    EXPECT_EQ(seen_by(edge, beta).eta, 0.0);
    EXPECT_GT(seen_by(edge + 1e-9, beta).eta, 0.0);
    EXPECT_LT(seen_by(edge + 1e-9, beta).eta, 1e-3);
    EXPECT_LT(seen_by(edge + 1e-9, beta).cosine_long, 1e-3);
    EXPECT_NEAR(seen_by(1e6, beta).eta / 1e6, 1.0, 1e-9);
    EXPECT_NEAR(seen_by(1e6, beta).cosine_long, 1.0, 1e-9);
    double before = 0.0;
    for (int i = 0; edge + 0.01 * i < 8.0; ++i) {
      const double y = edge + 0.01 * i;
      const double now = seen_by(y, beta).eta;
      EXPECT_GE(now, before) << y;
      EXPECT_LT(now, y) << y;
      before = now;
    }
  }
  EXPECT_EQ(seen_by(std::nan(""), 0.5).eta, 0.0);
}

TEST(SeenBy, HasItsClosedForms) {
  // A square: sqrt(y^2 - 4). A frame of few columns: y (1 - 1/y^2).
  for (const double y : {2.1, 3.0, 10.0}) {
    EXPECT_NEAR(seen_by(y, 1.0).eta, std::sqrt(y * y - 4.0), 1e-12);
    EXPECT_NEAR(seen_by(y, 1e-12).eta, y * (1.0 - 1.0 / (y * y)), 1e-9);
  }
}

// eta(y(x)) = x c c~: the least of x^2 + eta^2 - 2 x eta c c~.
TEST(SeenBy, LosesTheLeastOfWhatIsPossible) {
  for (const double beta : {0.2, 0.7, 1.0}) {
    for (const double x : {1.2, 2.0, 5.0}) {
      const Seen got = seen_by(seen(x, beta), beta);
      EXPECT_NEAR(x * x - got.eta * got.eta, least_loss(x, beta), 1e-9) << beta << " " << x;
      EXPECT_NEAR(got.eta * got.eta, x * x * got.cosine_short * got.cosine_long, 1e-9);
    }
  }
}

TEST(RowNoise, KeepsItsCovarianceWhenItIsShortened) {
  std::mt19937 draw(3);
  constexpr std::size_t kColumns = 5;
  RowNoise noise(kColumns);
  Doubles covariance(kColumns, kColumns);
  for (int i = 1; i <= 20; ++i) {
    const Matrix a = normals(draw, 3, kColumns);
    const double deviation = 0.1 * i;
    noise.add(deviation, a.view());
    for (std::size_t r = 0; r < a.rows(); ++r) {
      for (std::size_t j = 0; j < kColumns; ++j) {
        for (std::size_t k = 0; k < kColumns; ++k)
          covariance(j, k) +=
              deviation * deviation * static_cast<double>(a(r, j)) * static_cast<double>(a(r, k));
      }
    }
  }
  EXPECT_LE(noise.rows().rows, 2 * kColumns);
  Doubles turned(kColumns, noise.rows().rows);
  for (std::size_t i = 0; i < turned.rows; ++i) {
    for (std::size_t j = 0; j < turned.cols; ++j) turned(i, j) = noise.rows()(j, i);
  }
  EXPECT_LT(distance(product(turned, noise.rows()), covariance), 1e-11);
  double trace = 0.0;
  for (std::size_t j = 0; j < kColumns; ++j) trace += covariance(j, j);
  EXPECT_NEAR(noise.row_energy(), trace, 1e-11);
}

// Rank two, planted in noise of variance sigma^2 in every entry.
TEST(Shrink, ComesNearTheTheorysErrorAndFarBelowTheRawOne) {
  constexpr std::size_t kRows = 240, kColumns = 120;
  constexpr double kSigma = 0.3;
  const double beta = static_cast<double>(kColumns) / kRows;
  const double unit = kSigma * std::sqrt(static_cast<double>(kRows));
  std::mt19937 draw(11);
  double raw = 0.0, shrunk = 0.0;
  const double expected = unit * unit * (least_loss(4.0, beta) + least_loss(1.5, beta));
  constexpr int kTimes = 12;
  for (int i = 0; i < kTimes; ++i) {
    const ThinQr u = thin_qr(wide(normals(draw, kRows, 2)));
    const ThinQr v = thin_qr(wide(normals(draw, kColumns, 2)));
    Doubles signal(kRows, kColumns);
    for (std::size_t r = 0; r < kRows; ++r) {
      for (std::size_t c = 0; c < kColumns; ++c)
        signal(r, c) = unit * (4.0 * u.q(r, 0) * v.q(c, 0) + 1.5 * u.q(r, 1) * v.q(c, 1));
    }
    const Matrix noisy = added(signal.narrow(), normals(draw, kRows, kColumns, kSigma)).narrow();
    RowNoise noise(kColumns);
    noise.add(kSigma, identity(kColumns).view());
    const Shrunk got = shrink({.b = noisy.view(), .a = identity(kColumns).view()}, noise);
    EXPECT_EQ(got.frame, kColumns);
    EXPECT_LE(got.rank(), 3u);
    raw += std::pow(distance(wide(noisy), signal), 2) / kTimes;
    shrunk += std::pow(distance(product(got.b, got.a), signal), 2) / kTimes;
  }
  EXPECT_NEAR(raw / (kSigma * kSigma * kRows * kColumns), 1.0, 0.02);
  EXPECT_NEAR(shrunk / expected, 1.0, 0.1);
  EXPECT_LT(shrunk, 0.1 * raw);
}

TEST(Shrink, LeavesNothingOfNoiseAlone) {
  std::mt19937 draw(12);
  const Matrix b = normals(draw, 200, 100, 2.0);
  RowNoise noise(100);
  noise.add(2.05, identity(100).view());
  const Shrunk got = shrink({.b = b.view(), .a = identity(100).view()}, noise);
  EXPECT_EQ(got.rank(), 0u);
  EXPECT_EQ(got.b.cols, 0u);
  EXPECT_EQ(got.a.rows, 0u);
}

// B in noise of variance 1 on an A whose rows are orthogonal and 0.3 to 1.5 long: W's noise is not
// even. A signal of x sqrt(rows) in each of two directions of B.
struct Skewed {
  static constexpr std::size_t kRows = 300, kColumns = 80, kRank = 60;
  Matrix a{kRank, kColumns}, noisy;
  Doubles wanted;
  RowNoise noise{kColumns};

  Skewed(std::mt19937& draw, double x) {
    const ThinQr frame = thin_qr(wide(normals(draw, kColumns, kRank)));
    for (std::size_t r = 0; r < kRank; ++r) {
      const double length = 0.3 + 1.2 * static_cast<double>(r) / (kRank - 1);
      for (std::size_t c = 0; c < kColumns; ++c)
        a(r, c) = static_cast<float>(length * frame.q(c, r));
    }
    const ThinQr u = thin_qr(wide(normals(draw, kRows, 2)));
    Matrix signal(kRows, kRank);
    for (std::size_t i = 0; i < kRows; ++i) {  // one where there is little noise, one where much
      signal(i, 0) = static_cast<float>(x * std::sqrt(double{kRows}) * u.q(i, 0));
      signal(i, kRank - 1) = static_cast<float>(x * std::sqrt(double{kRows}) * u.q(i, 1));
    }
    noisy = added(signal, normals(draw, kRows, kRank)).narrow();
    wanted = product(wide(signal), wide(a));
    noise.add(1.0, a.view());
  }
  [[nodiscard]] Shrunk shrunk() const { return shrink({.b = noisy.view(), .a = a.view()}, noise); }
  [[nodiscard]] double loss(const Shrunk& got, double factor = 1.0) const {
    Doubles change = product(got.b, got.a);
    for (double& value : change.values) value *= factor;
    return std::pow(distance(change, wanted), 2);
  }
};

TEST(Shrink, WhitensASkewedFrame) {
  std::mt19937 draw(13);
  double own = 0.0, less = 0.0, more = 0.0, even = 0.0, raw = 0.0, none = 0.0;
  for (int i = 0; i < 20; ++i) {
    const Skewed one(draw, 2.5);
    const Shrunk got = one.shrunk();
    EXPECT_EQ(got.frame, Skewed::kRank);
    EXPECT_LT(got.outside, 1e-5 * got.norm);
    own += one.loss(got);
    less += one.loss(got, 0.8);
    more += one.loss(got, 1.25);
    // As if the same energy of noise were spread evenly over W.
    RowNoise flat(Skewed::kColumns);
    flat.add(std::sqrt(one.noise.row_energy() / Skewed::kColumns),
             identity(Skewed::kColumns).view());
    even += one.loss(shrink({.b = one.noisy.view(), .a = one.a.view()}, flat));
    raw += std::pow(distance(product(wide(one.noisy), wide(one.a)), one.wanted), 2);
    none += std::pow(distance(one.wanted, Doubles(Skewed::kRows, Skewed::kColumns)), 2);
  }
  EXPECT_LT(own, less);
  EXPECT_LT(own, more);
  EXPECT_LT(own, 0.9 * even);
  EXPECT_LT(own, 0.1 * raw);
  EXPECT_LT(own, 0.6 * none);
}

// A plain signal where there is hardly any noise, beside directions with a hundred times as much:
// the little that its singular vector has wrong must not come back a hundred times larger.
TEST(Shrink, DoesNotColourWhatItHasWrong) {
  constexpr std::size_t kRows = 300, kColumns = 120, kRank = 100;
  std::mt19937 draw(16);
  double own = 0.0, none = 0.0;
  for (int times = 0; times < 10; ++times) {
    const ThinQr frame = thin_qr(wide(normals(draw, kColumns, kRank)));
    Matrix a(kRank, kColumns), signal(kRows, kRank);
    for (std::size_t r = 0; r < kRank; ++r) {
      for (std::size_t c = 0; c < kColumns; ++c)
        a(r, c) = static_cast<float>((r < kRank / 2 ? 1.0 : 0.01) * frame.q(c, r));
    }
    for (std::size_t i = 0; i < kRows; ++i) signal(i, kRank - 1) = 3.0F;
    const Matrix noisy = added(signal, normals(draw, kRows, kRank)).narrow();
    RowNoise noise(kColumns);
    noise.add(1.0, a.view());
    const Shrunk got = shrink({.b = noisy.view(), .a = a.view()}, noise);
    const Doubles wanted = product(wide(signal), wide(a));
    own += std::pow(distance(product(got.b, got.a), wanted), 2);
    none += std::pow(distance(wanted, Doubles(kRows, kColumns)), 2);
  }
  EXPECT_LT(own, 10.0 * none);  // eta alone would lose 160 times it
}

// Pairs with the same product give the same result.
TEST(Shrink, DoesNotDependOnHowTheProductIsFactored) {
  std::mt19937 draw(14);
  const Matrix b = normals(draw, 30, 4), a = normals(draw, 4, 12);
  RowNoise noise(12);
  noise.add(0.1, a.view());
  const Shrunk once = shrink({.b = b.view(), .a = a.view(), .weight = 2.0}, noise);
  const Recompressed other = recompress({.b = b.view(), .a = a.view(), .weight = 2.0});
  const Matrix ob = other.b.narrow(), oa = other.a.narrow();
  const Shrunk again = shrink({.b = ob.view(), .a = oa.view()}, noise);
  ASSERT_EQ(once.rank(), 4u);
  ASSERT_EQ(again.rank(), 4u);
  const Doubles left = product(once.b, once.a);
  EXPECT_LT(distance(left, product(again.b, again.a)), 1e-5 * once.norm);
  EXPECT_NEAR(once.norm, distance(product(wide(b), wide(a)), Doubles(30, 12)) * 2.0, 1e-9);
}

TEST(Shrink, TellsWhatLiesOutsideTheNoise) {
  std::mt19937 draw(15);
  const Matrix b = normals(draw, 30, 3), a = normals(draw, 3, 12), other = normals(draw, 3, 12);
  RowNoise noise(12);
  noise.add(0.1, other.view());
  const Shrunk got = shrink({.b = b.view(), .a = a.view()}, noise);
  EXPECT_EQ(got.frame, 3u);
  EXPECT_GT(got.outside, 0.5 * got.norm);
  EXPECT_LT(got.outside, got.norm);
}

}  // namespace
}  // namespace strata::tensor

#include "tensor/shrinkage.h"

#include <Eigen/Core>
#include <algorithm>
#include <cmath>

#include "base/result.h"

namespace strata::tensor {
namespace {

using Eigen::Index;
using Dense = Eigen::MatrixXd;
using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using FloatMap =
    Eigen::Map<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>, 0,
               Eigen::OuterStride<>>;

Index index(std::size_t n) { return static_cast<Index>(n); }

Dense dense(const ConstMatrixView& m) {
  return FloatMap(m.data, index(m.rows), index(m.cols), Eigen::OuterStride<>(index(m.stride)))
      .cast<double>();
}

Dense dense(const Doubles& m) {
  return Eigen::Map<const RowMajor>(m.values.data(), index(m.rows), index(m.cols));
}

Doubles doubles(const Dense& m) {
  Doubles out(static_cast<std::size_t>(m.rows()), static_cast<std::size_t>(m.cols()));
  Eigen::Map<RowMajor>(out.values.data(), m.rows(), m.cols()) = m;
  return out;
}

// ||B A||_F without forming it.
double product_norm(const Dense& b, const Dense& a) {
  return std::sqrt(std::max(0.0, (b.transpose() * b * a).cwiseProduct(a).sum()));
}

}  // namespace

Seen seen_by(double y, double beta) {
  check(beta > 0.0 && beta <= 1.0, "seen_by: beta is the shorter side over the longer");
  if (!(y > 1.0 + std::sqrt(beta))) return {};
  const double sum = y * y - beta - 1.0;
  const double root = std::sqrt(std::max(0.0, sum * sum - 4.0 * beta));
  const double x2 = (sum + root) / 2.0;  // of the signal: y^2 = (x + 1/x)(x + beta/x)
  const double above = std::max(0.0, x2 * x2 - beta);
  return {.eta = root / y,
          .cosine_short = above / (x2 * x2 + beta * x2),
          .cosine_long = above / (x2 * x2 + x2)};
}

void RowNoise::add(double deviation, ConstMatrixView a) {
  check(a.cols == rows_.cols, "RowNoise: the factor has another number of columns");
  rows_.values.reserve(rows_.values.size() + a.rows * a.cols);
  for (std::size_t i = 0; i < a.rows; ++i) {
    for (std::size_t j = 0; j < a.cols; ++j)
      rows_.values.push_back(deviation * static_cast<double>(a.row(i)[j]));
  }
  rows_.rows += a.rows;
  if (rows_.rows > 2 * rows_.cols) rows_ = thin_qr(rows_).r;
}

double RowNoise::row_energy() const {
  double sum = 0.0;
  for (const double value : rows_.values) sum += value * value;
  return sum;
}

Shrunk shrink(const FactorView& product, const RowNoise& noise) {
  check(product.b.cols == product.a.rows, "shrink: the factors have different ranks");
  check(product.a.cols == noise.rows().cols, "shrink: the noise has another number of columns");
  const Dense b = dense(product.b) * product.weight;
  const Dense a = dense(product.a);
  const Svd frame = svd(noise.rows());
  const double floor =
      frame.s.empty() ? 0.0 : frame.s.front() * static_cast<double>(a.cols()) * 0x1p-24;
  const auto rank = static_cast<std::size_t>(
      std::count_if(frame.s.begin(), frame.s.end(), [&](double s) { return s > floor; }));
  Shrunk out{.b = Doubles(product.b.rows, 0), .a = Doubles(0, product.a.cols), .frame = rank};
  const Dense v = dense(frame.v).leftCols(index(rank));
  const Eigen::VectorXd s = Eigen::Map<const Eigen::VectorXd>(frame.s.data(), index(rank));
  const Dense inside = a * v;  // q x R
  out.norm = product_norm(b, a);
  out.outside = product_norm(b, a - inside * v.transpose());
  if (rank == 0 || b.rows() == 0) return out;
  const Svd y = svd(doubles(b * (inside * s.cwiseInverse().asDiagonal())));
  const auto longer = static_cast<double>(std::max(product.b.rows, rank));
  const double beta = static_cast<double>(std::min(product.b.rows, rank)) / longer;
  out.before = y.s;
  const double mean = s.squaredNorm() / static_cast<double>(rank);
  const Dense u = dense(y.u), coloured = s.asDiagonal() * dense(y.v);  // R x min(m, R)
  std::vector<Index> kept;
  for (Index i = 0; i < coloured.cols(); ++i) {
    const Seen seen = seen_by(y.s[static_cast<std::size_t>(i)] / std::sqrt(longer), beta);
    const double cosine = rank <= product.b.rows ? seen.cosine_short : seen.cosine_long;
    const double energy = coloured.col(i).squaredNorm();
    const double own = energy - (1.0 - cosine) * mean;
    if (!(seen.eta > 0.0 && cosine > 0.0 && own > 0.0)) continue;
    kept.push_back(i);
    out.after.push_back(std::sqrt(longer) * seen.eta * own / (cosine * energy));
  }
  const Index q = index(kept.size());
  Dense left(b.rows(), q), right(q, coloured.rows());
  for (Index i = 0; i < q; ++i) {
    const double root = std::sqrt(out.after[static_cast<std::size_t>(i)]);
    left.col(i) = root * u.col(kept[static_cast<std::size_t>(i)]);
    right.row(i) = root * coloured.col(kept[static_cast<std::size_t>(i)]).transpose();
  }
  out.b = doubles(left);
  out.a = doubles(right * v.transpose());
  return out;
}

}  // namespace strata::tensor

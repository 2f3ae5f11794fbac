#include "tensor/linalg.h"

#include <Eigen/Core>
#include <Eigen/QR>
#include <Eigen/SVD>
#include <algorithm>
#include <cmath>

#include "base/result.h"

namespace strata::tensor {
namespace {

using Eigen::Index;
using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Dense = Eigen::MatrixXd;
using FloatMap =
    Eigen::Map<const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>, 0,
               Eigen::OuterStride<>>;

Index index(std::size_t n) { return static_cast<Index>(n); }

FloatMap map(const ConstMatrixView& m) {
  return {m.data, index(m.rows), index(m.cols), Eigen::OuterStride<>(index(m.stride))};
}

Eigen::Map<const RowMajor> map(const Doubles& m) {
  return {m.values.data(), index(m.rows), index(m.cols)};
}

template <class Derived>
Doubles doubles(const Eigen::MatrixBase<Derived>& m) {
  Doubles out(static_cast<std::size_t>(m.rows()), static_cast<std::size_t>(m.cols()));
  Eigen::Map<RowMajor>(out.values.data(), m.rows(), m.cols()) = m;
  return out;
}

struct Qr {
  Dense q;
  Dense r;
};

Qr qr(const Dense& m) {
  const Index k = std::min(m.rows(), m.cols());
  const Eigen::HouseholderQR<Dense> decomposition(m);
  Qr out{decomposition.householderQ() * Dense::Identity(m.rows(), k),
         decomposition.matrixQR().topRows(k).template triangularView<Eigen::Upper>()};
  for (Index i = 0; i < k; ++i) {
    if (out.r(i, i) >= 0.0) continue;
    out.q.col(i) *= -1.0;
    out.r.row(i) *= -1.0;
  }
  return out;
}

struct Singular {
  Dense u;
  Eigen::VectorXd s;
  Dense v;
};

// Turns each pair of columns so that the largest entry of u's is positive.
void fix_signs(Dense& u, Dense& v) {
  for (Index i = 0; i < u.cols(); ++i) {
    Index largest = 0;
    u.col(i).cwiseAbs().maxCoeff(&largest);
    if (u(largest, i) >= 0.0) continue;
    u.col(i) *= -1.0;
    v.col(i) *= -1.0;
  }
}

Singular singular(const Dense& m) {
  const Eigen::BDCSVD<Dense> decomposition(m, Eigen::ComputeThinU | Eigen::ComputeThinV);
  Singular out{decomposition.matrixU(), decomposition.singularValues(), decomposition.matrixV()};
  fix_signs(out.u, out.v);
  return out;
}

// X = Q R of a tall X; a side that is not taller than wide is its own R, since Q would only turn
// it.
Qr reduce(const Dense& x) {
  if (x.rows() <= x.cols()) return {Dense(), x};
  return qr(x);
}

Dense expand(const Qr& side, const Dense& core) {
  return side.q.size() == 0 ? core : Dense(side.q * core);
}

// The rank that `rule` asks for, from descending singular values; tail[q] = the part lost with rank
// q.
std::size_t choose_rank(const Eigen::VectorXd& s, std::span<const double> tail,
                        std::size_t longer_side, const RecompressRule& rule) {
  if (s.size() == 0 || s(0) == 0.0) return 0;
  const double floor = static_cast<double>(longer_side) * rule.unit_roundoff * s(0);
  std::size_t q = 0;
  while (q < static_cast<std::size_t>(s.size()) && s(index(q)) > floor) ++q;
  const double allowed = std::max(rule.absolute_error, rule.relative_error * tail[0]);
  while (q > 0 && tail[q - 1] <= allowed) --q;
  return std::min(q, rule.max_rank);
}

}  // namespace

Matrix Doubles::narrow() const {
  Matrix out(rows, cols);
  std::transform(values.begin(), values.end(), out.data(),
                 [](double v) { return static_cast<float>(v); });
  return out;
}

ThinQr thin_qr(const Doubles& m) {
  const Qr out = qr(map(m));
  return {doubles(out.q), doubles(out.r)};
}

Svd svd(const Doubles& m) {
  const Singular out = singular(map(m));
  return {doubles(out.u), {out.s.begin(), out.s.end()}, doubles(out.v)};
}

std::vector<double> singular_values(const Doubles& m) {
  const Eigen::BDCSVD<Dense> decomposition(map(m));
  const auto& s = decomposition.singularValues();
  return {s.begin(), s.end()};
}

Recompressed recompress(const FactorView& product, const RecompressRule& rule) {
  check(product.b.cols == product.a.rows, "recompress: the factors have different ranks");
  Recompressed out{Doubles(product.b.rows, 0), Doubles(0, product.a.cols), {}, 0.0, 0.0};
  if (product.b.cols == 0 || product.b.rows == 0 || product.a.cols == 0) return out;
  const Qr left = reduce(map(product.b).cast<double>() * product.weight);
  const Qr right = reduce(map(product.a).cast<double>().transpose());
  const Singular core = singular(left.r * right.r.transpose());
  const auto count = static_cast<std::size_t>(core.s.size());
  std::vector<double> tail(count + 1, 0.0);
  for (std::size_t i = count; i-- > 0;) tail[i] = std::hypot(tail[i + 1], core.s(index(i)));
  const std::size_t rank =
      choose_rank(core.s, tail, std::max(product.b.rows, product.a.cols), rule);
  const Index q = index(rank);
  const Eigen::VectorXd root = core.s.head(q).cwiseSqrt();
  Dense b = expand(left, core.u.leftCols(q) * root.asDiagonal());
  Dense a = expand(right, core.v.leftCols(q) * root.asDiagonal());
  fix_signs(b, a);  // of the result: the core's coordinates depend on which of many equal pairs (B
                    // G, G^-1 A) came in
  out.b = doubles(b);
  out.a = doubles(a.transpose());
  out.singular_values.assign(core.s.begin(), core.s.end());
  out.error = tail[rank];
  out.norm = tail[0];
  return out;
}

double inner_product(const FactorView& x, const FactorView& y) {
  check(x.b.rows == y.b.rows && x.a.cols == y.a.cols,
        "inner_product: the products have different shapes");
  const Dense left = map(x.b).cast<double>().transpose() * map(y.b).cast<double>();   // r_x x r_y
  const Dense right = map(x.a).cast<double>() * map(y.a).cast<double>().transpose();  // r_x x r_y
  return x.weight * y.weight * left.cwiseProduct(right).sum();
}

Doubles gram(std::span<const FactorView> products) {
  Doubles out(products.size(), products.size());
  for (std::size_t i = 0; i < products.size(); ++i) {
    for (std::size_t j = 0; j <= i; ++j)
      out(i, j) = out(j, i) = inner_product(products[i], products[j]);
  }
  return out;
}

double frobenius_norm(std::span<const FactorView> products) {
  const Doubles pairs = gram(products);
  double sum = 0.0;
  for (const double value : pairs.values) sum += value;
  return std::sqrt(std::max(0.0, sum));
}

void add_product_rows(std::span<double> out, const FactorView& product, std::size_t first,
                      std::size_t count) {
  check(out.size() == count * product.a.cols && first + count <= product.b.rows,
        "add_product_rows: wrong output size");
  Eigen::Map<RowMajor> rows(out.data(), index(count), index(product.a.cols));
  const RowMajor b =
      map(product.b).middleRows(index(first), index(count)).cast<double>() * product.weight;
  rows.noalias() += b * map(product.a).cast<double>().eval();
}

}  // namespace strata::tensor

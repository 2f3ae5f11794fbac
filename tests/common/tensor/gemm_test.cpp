// The matrix product against the definition in double, with the rounding bound of float sums: a
// sum of n products in any order and grouping is off by at most about n u sum |a||b|, u = 2^-24
// (Higham 2002, section 3.1). So the test holds for every blocking and instruction set, and fails
// when a single product is missing.
#include "tensor/gemm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "tensor/team.h"

namespace strata::tensor {
namespace {

struct Shape {
  std::size_t m, n, k;
};

void PrintTo(const Shape& s, std::ostream* out) { *out << s.m << " x " << s.n << ", K " << s.k; }

/// A stored operand of either type, wider than it is used: what lies between the rows is NaN, so
/// that whoever reads it shows.
struct Stored {
  Stored(DType type, std::size_t rows, std::size_t cols, std::size_t gap, unsigned seed)
      : dtype(type), r(rows), c(cols), stride(cols + gap), floats(rows * stride) {
    std::mt19937 draw(seed);
    std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
    for (std::size_t i = 0; i < floats.size(); ++i) {
      float value = i % stride < cols ? uniform(draw) : std::numeric_limits<float>::quiet_NaN();
      if (type == DType::kBF16) {
        halves.push_back(BFloat16::from(value));
        value = halves.back().to_float();
      }
      floats[i] = value;
    }
  }
  [[nodiscard]] Operand operand(bool transposed) const {
    Operand out(dtype == DType::kBF16 ? static_cast<const void*>(halves.data()) : floats.data(),
                dtype, r, c);
    out.stride = stride;
    return transposed ? out.t() : out;
  }
  [[nodiscard]] double at(std::size_t i, std::size_t j, bool transposed) const {
    return transposed ? floats[j * stride + i] : floats[i * stride + j];
  }

  DType dtype;
  std::size_t r, c, stride;
  std::vector<float> floats;
  std::vector<BFloat16> halves;
};

constexpr float kGapMark = 12345.0f;

struct Product {
  Shape shape;
  bool transpose_a, transpose_b, accumulate;
  float scale;
  std::size_t gap;
  Stored a, b;
  std::vector<float> before;  // what `out` holds at the start, its gaps marked

  Product(DType type, Shape s, bool ta, bool tb, bool add, float factor, std::size_t spare)
      : shape(s),
        transpose_a(ta),
        transpose_b(tb),
        accumulate(add),
        scale(factor),
        gap(spare),
        a(type, ta ? s.k : s.m, ta ? s.m : s.k, spare, 1),
        b(type, tb ? s.n : s.k, tb ? s.k : s.n, spare, 2),
        before(s.m * (s.n + spare), kGapMark) {
    std::mt19937 draw(3);
    std::normal_distribution<float> normal;
    for (std::size_t i = 0; i < before.size(); ++i) {
      if (i % (s.n + gap) >= s.n) continue;
      // A product that does not add must not look at what was there.
      before[i] = accumulate ? normal(draw) : std::numeric_limits<float>::quiet_NaN();
    }
  }

  [[nodiscard]] std::vector<float> run(Gemm& gemm) const {
    std::vector<float> out = before;
    gemm.multiply({out.data(), shape.m, shape.n, shape.n + gap}, a.operand(transpose_a),
                  b.operand(transpose_b), accumulate, scale);
    return out;
  }

  void expect_product(const std::vector<float>& out) const {
    const std::size_t stride = shape.n + gap;
    const double unit = std::ldexp(static_cast<double>(shape.k) + 8.0, -24);
    for (std::size_t i = 0; i < shape.m; ++i) {
      for (std::size_t j = 0; j < shape.n; ++j) {
        double sum = 0.0, size = 0.0;
        for (std::size_t l = 0; l < shape.k; ++l) {
          const double term = a.at(i, l, transpose_a) * b.at(l, j, transpose_b);
          sum += term;
          size += std::abs(term);
        }
        const double old = accumulate ? static_cast<double>(before[i * stride + j]) : 0.0;
        const double expected = static_cast<double>(scale) * sum + old;
        const double bound = unit * (std::abs(static_cast<double>(scale)) * size + std::abs(old));
        ASSERT_NEAR(out[i * stride + j], expected, bound) << "at " << i << ", " << j;
      }
      for (std::size_t j = shape.n; j < stride; ++j)
        ASSERT_EQ(out[i * stride + j], kGapMark) << "between rows " << i << " and " << i + 1;
    }
  }
};

// One row (generation), odd and small, a low rank, odd and larger than any block, long sums.
constexpr Shape kShapes[] = {{1, 1, 1},     {1, 67, 24},   {5, 3, 7},      {33, 16, 4},
                             {17, 129, 31}, {131, 67, 97}, {67, 131, 263}, {3, 2, 1031}};

bool same_bits(const std::vector<float>& x, const std::vector<float>& y) {
  return x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0;
}

struct How {
  DType type;
  bool transpose_a, transpose_b;
};

std::string name_of(const testing::TestParamInfo<How>& how) {
  return std::string(safetensors_name(how.param.type)) + (how.param.transpose_a ? "_T" : "_N") +
         (how.param.transpose_b ? "T" : "N");
}

class GemmProduct : public testing::TestWithParam<How> {
 protected:
  static Product product(const Shape& shape, bool accumulate, float scale, std::size_t gap) {
    const auto& [type, ta, tb] = GetParam();
    return {type, shape, ta, tb, accumulate, scale, gap};
  }
};
INSTANTIATE_TEST_SUITE_P(
    Operands, GemmProduct,
    testing::Values(How{DType::kF32, false, false}, How{DType::kF32, false, true},
                    How{DType::kF32, true, false}, How{DType::kF32, true, true},
                    How{DType::kBF16, false, false}, How{DType::kBF16, false, true},
                    How{DType::kBF16, true, false}, How{DType::kBF16, true, true}),
    name_of);

TEST_P(GemmProduct, EqualsTheDefinition) {
  Gemm gemm;
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(testing::PrintToString(shape));
    const Product p = product(shape, false, 1.0f, 0);
    p.expect_product(p.run(gemm));
  }
}

TEST_P(GemmProduct, ScalesAndAddsToWhatIsThere) {
  Gemm gemm;
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(testing::PrintToString(shape));
    const Product scaled = product(shape, false, 2.5f, 0);
    scaled.expect_product(scaled.run(gemm));
    const Product added = product(shape, true, 1.0f, 0);
    added.expect_product(added.run(gemm));
    const Product both = product(shape, true, -0.375f, 0);
    both.expect_product(both.run(gemm));
  }
}

TEST_P(GemmProduct, TakesPartsOfWiderMatricesAndWritesNothingBetweenRows) {
  Gemm gemm;
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(testing::PrintToString(shape));
    const Product set = product(shape, false, 2.5f, 5);
    set.expect_product(set.run(gemm));
    const Product added = product(shape, true, 1.0f, 5);
    added.expect_product(added.run(gemm));
  }
}

TEST_P(GemmProduct, GivesTheSameBitsEachTimeWhateverCameBetween) {
  Gemm gemm;
  const Product between = product({7, 11, 13}, false, 1.0f, 0);
  for (const Shape& shape : kShapes) {
    SCOPED_TRACE(testing::PrintToString(shape));
    const Product p = product(shape, true, 0.5f, 1);
    const auto first = p.run(gemm);
    (void)between.run(gemm);
    EXPECT_TRUE(same_bits(first, p.run(gemm)));
    Gemm fresh;
    EXPECT_TRUE(same_bits(first, p.run(fresh)));
  }
}

class GemmEdge : public testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(Types, GemmEdge, testing::Values(DType::kF32, DType::kBF16),
                         [](const auto& type) {
                           return std::string(safetensors_name(type.param));
                         });

TEST_P(GemmEdge, ASumOfNothingIsZeroOrLeavesWhatIsThere) {
  Gemm gemm;
  const Product sets(GetParam(), {3, 4, 0}, false, false, false, 2.0f, 2);
  sets.expect_product(sets.run(gemm));
  const Product adds(GetParam(), {3, 4, 0}, false, false, true, 2.0f, 2);
  EXPECT_TRUE(same_bits(adds.run(gemm), adds.before));
}

TEST_P(GemmEdge, NoRowsOrNoColumnsIsNoWork) {
  Gemm gemm;
  EXPECT_TRUE(Product(GetParam(), {0, 4, 3}, false, false, false, 1.0f, 0).run(gemm).empty());
  const Product no_columns(GetParam(), {4, 0, 3}, false, false, false, 1.0f, 2);
  EXPECT_TRUE(same_bits(no_columns.run(gemm), no_columns.before));
}

TEST_P(GemmEdge, RowsFromTakesRowsAsStored) {
  const Stored a(GetParam(), 9, 5, 3, 4);
  const Stored b(GetParam(), 5, 2, 0, 5);
  Matrix out(4, 2);
  Gemm gemm;
  gemm.multiply(out.view(), a.operand(false).rows_from(3, 4), b.operand(false), false);
  for (std::size_t i = 0; i < 4; ++i) {
    for (std::size_t j = 0; j < 2; ++j) {
      double sum = 0.0;
      for (std::size_t l = 0; l < 5; ++l) sum += a.at(i + 3, l, false) * b.at(l, j, false);
      EXPECT_NEAR(out(i, j), sum, 1e-5);
    }
  }
}

TEST_P(GemmEdge, AnInfinityOrNaNInAnOperandReachesTheRowsItTouchesAndNoOther) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Product p(GetParam(), {20, 24, 33}, false, true, false, 1.0f, 0);
    p.a.floats[7 * 33 + 5] = bad;
    if (GetParam() == DType::kBF16) p.a.halves[7 * 33 + 5] = BFloat16::from(bad);
    Gemm gemm;
    const auto out = p.run(gemm);
    for (std::size_t i = 0; i < 20; ++i) {
      for (std::size_t j = 0; j < 24; ++j) EXPECT_EQ(std::isfinite(out[i * 24 + j]), i != 7);
    }
  }
}

TEST_P(GemmEdge, SameBitsOnAnyThread) {
  const Product p(GetParam(), {129, 131, 263}, false, true, false, 1.0f, 0);
  Gemm gemm;
  const auto first = p.run(gemm);
  p.expect_product(first);
  Team team(3);
  std::vector<std::vector<float>> others(3);
  team.run([&](int member) {
    Gemm own;
    others[static_cast<std::size_t>(member)] = p.run(own);
  });
  for (const auto& other : others) EXPECT_TRUE(same_bits(first, other));
}

TEST(FloatGemm, EqualsTheDefinitionInsideParallelLoops) {
  const Product p(DType::kF32, {13, 9, 21}, true, false, true, 1.5f, 3);
  std::vector<std::vector<float>> out(16, p.before);
  Team team(3);
  team.for_tasks(out.size(), [&](std::size_t i, int) {
    float_gemm({out[i].data(), 13, 9, 12}, p.a.operand(true), p.b.operand(false), true, 1.5f);
  });
  for (const auto& one : out) p.expect_product(one);
}

}  // namespace
}  // namespace strata::tensor

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "adapter/packet.h"
#include "tensor/team.h"

namespace strata::adapter {
namespace {

using tensor::Matrix;

constexpr double kU32 = 0x1p-24;
constexpr double kU64 = 0x1p-53;

Matrix random_matrix(std::size_t rows, std::size_t cols, unsigned seed, float size = 1.0f) {
  std::mt19937 draw(seed);
  std::normal_distribution<float> normal(0.0f, size);
  Matrix out(rows, cols);
  for (float& value : out.values()) value = normal(draw);
  return out;
}

PacketTensor random_stack(std::size_t d_out, std::size_t d_in, std::size_t rank) {
  return {d_out, d_in, Stack{random_matrix(d_out, rank, 1, 0.1f), random_matrix(rank, d_in, 2)}};
}

Matrix transpose(const Matrix& m) {
  Matrix out(m.cols(), m.rows());
  for (std::size_t i = 0; i < m.rows(); ++i) {
    for (std::size_t j = 0; j < m.cols(); ++j) out(j, i) = m(i, j);
  }
  return out;
}

Matrix merged(Matrix w, const PacketTensor& change) {
  merge(w.values(), false, change);
  return w;
}

// The definition, one element at a time.
Matrix merged_plainly(const Matrix& w, const Stack& stack) {
  Matrix out = w;
  for (std::size_t i = 0; i < w.rows(); ++i) {
    for (std::size_t c = 0; c < w.cols(); ++c) {
      double sum = static_cast<double>(w(i, c));
      for (std::size_t j = 0; j < stack.a.rows(); ++j) {
        sum += static_cast<double>(stack.b(i, j)) * static_cast<double>(stack.a(j, c));
      }
      out(i, c) = static_cast<float>(sum);
    }
  }
  return out;
}

class Merge : public testing::TestWithParam<std::tuple<std::size_t, std::size_t, std::size_t>> {
 protected:
  std::size_t d_out_ = std::get<0>(GetParam());
  std::size_t d_in_ = std::get<1>(GetParam());
  PacketTensor change_ = random_stack(d_out_, d_in_, std::get<2>(GetParam()));
  Matrix w_ = random_matrix(d_out_, d_in_, 3);
};

TEST_P(Merge, StaysWithinTheBound) {
  const auto& stack = std::get<Stack>(change_.change);
  const Matrix out = merged(w_, change_);
  const auto rank = static_cast<double>(stack.a.rows()) + 1.0;  // W is one more term of the sum
  const double gamma = rank * kU64 / (1.0 - rank * kU64);
  for (std::size_t i = 0; i < d_out_; ++i) {
    for (std::size_t c = 0; c < d_in_; ++c) {
      long double exact = w_(i, c), size = std::abs(w_(i, c));
      for (std::size_t j = 0; j < stack.a.rows(); ++j) {
        const long double term = static_cast<long double>(stack.b(i, j)) * stack.a(j, c);
        exact += term;
        size += std::abs(term);
      }
      const double bound =
          gamma * static_cast<double>(size) + kU32 * static_cast<double>(std::abs(exact));
      ASSERT_LE(std::abs(static_cast<double>(out(i, c) - exact)), bound * (1.0 + 1e-6))
          << i << " " << c;
    }
  }
}

TEST_P(Merge, HasTheBitsOfThePlainLoopOnEachInstructionSet) {
  const Matrix expected = merged_plainly(w_, std::get<Stack>(change_.change));
  tensor::Team team;
  MergeRoom room;
  for (const auto& kernel : product_kernels()) {
    Matrix plain = w_, turned = transpose(w_);
    merge(plain.values(), false, change_, kernel, team, room);
    merge(turned.values(), true, change_, kernel, team, room);
    EXPECT_TRUE(plain == expected) << kernel.name;
    EXPECT_TRUE(transpose(turned) == expected) << kernel.name << ", stored transposed";
  }
}

TEST_P(Merge, HasTheSameBitsForAnyThreadCount) {
  const Matrix one = merged(w_, change_);
  for (const int threads : {2, 3, 8}) {
    tensor::Team team(threads);
    Matrix plain = w_, turned = transpose(w_);
    merge(plain.values(), false, change_, &team);
    EXPECT_TRUE(plain == one) << threads;
    merge(turned.values(), true, change_, &team);
    EXPECT_TRUE(transpose(turned) == one) << threads;
  }
}

TEST_P(Merge, PacketRowsAreTheChangeItselfHoweverTheyAreCut) {
  const auto& stack = std::get<Stack>(change_.change);
  std::vector<double> whole(d_out_ * d_in_);
  packet_rows(change_, 0, d_out_, whole);
  double sum = 0.0;
  for (std::size_t j = 0; j < stack.a.rows(); ++j) {
    sum += static_cast<double>(stack.b(d_out_ - 1, j)) * static_cast<double>(stack.a(j, 0));
  }
  EXPECT_EQ(whole[(d_out_ - 1) * d_in_], sum);
  for (std::size_t first = 0; first < d_out_; first += 7) {
    const std::size_t count = std::min<std::size_t>(7, d_out_ - first);
    std::vector<double> piece(count * d_in_);
    packet_rows(change_, first, count, piece);
    EXPECT_TRUE(std::equal(piece.begin(), piece.end(),
                           whole.begin() + static_cast<std::ptrdiff_t>(first * d_in_)));
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, Merge,
                         testing::Values(std::tuple(1, 1, 1), std::tuple(5, 3, 2),
                                         std::tuple(64, 48, 16), std::tuple(48, 64, 48),
                                         std::tuple(131, 37, 29), std::tuple(37, 131, 1),
                                         std::tuple(70, 33, 300)),
                         [](const auto& shape) {
                           return std::to_string(std::get<0>(shape.param)) + "by" +
                                  std::to_string(std::get<1>(shape.param)) + "rank" +
                                  std::to_string(std::get<2>(shape.param));
                         });

TEST(MergeDense, AddsInEitherLayout) {
  const PacketTensor change{5, 3, Dense{random_matrix(5, 3, 1)}};
  const Matrix w = random_matrix(5, 3, 2);
  const Matrix out = merged(w, change);
  EXPECT_EQ(out(4, 1), static_cast<float>(static_cast<double>(w(4, 1)) +
                                          std::get<Dense>(change.change).values(4, 1)));
  Matrix turned = transpose(w);
  merge(turned.values(), true, change);
  EXPECT_TRUE(transpose(turned) == out);
}

TEST(MergeDense, HandlesVectors) {
  const PacketTensor change{3, 1, Dense{Matrix(3, 1, {1.0f, 2.0f, 3.0f})}};
  EXPECT_TRUE(merged(Matrix(3, 1, {1.0f, 1.0f, 1.0f}), change) == Matrix(3, 1, {2.0f, 3.0f, 4.0f}));
}

}  // namespace
}  // namespace strata::adapter
